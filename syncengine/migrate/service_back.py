"""The part of the migration service that goes back: rollback, restore points, restore."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from syncengine.migrate.service_frame import ServiceFrame
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.keys import KeyProvider
    from syncengine.local.resealing import ResealReport
    from syncengine.local.restore_points import RestorePoint
    from syncengine.local.restoring import RestoreReport
    from syncengine.migrate.rollback import Rollback
    from syncengine.migrate.rollback_report import RollbackReport


class GoingBack(ServiceFrame):
    """Ways back, each said before it is gone."""

    def rollback(
        self,
        migration_id: str,
        user: str | None = None,
        *,
        simulate: bool = False,
        on_collision: str = "stop",
        consent: Collection[str] | None = None,
        why: str = "",
        emergency: bool = False,
    ) -> "RollbackReport":
        """Undo a migration and all that builds on it, for this user or, where it is of the store, for all owners.

        `simulate` says what would be done and changes nothing. `on_collision`: what becomes of rows that cannot go
        back as they are ("stop": nothing is done; "keep"; "overwrite"; see docs/recovery.md). `consent` names the
        other users whose rows may go back. `emergency` goes back to the newest good restore point at once, in
        developer mode only. What was rolled back runs again when it is asked for, or when its code is another.
        Raises RollbackRefused, RollbackFailed, DeveloperModeRequired, StoreBusy; the store is then as it was.
        """
        way = self._way_back(user, on_collision=on_collision, consent=consent, why=why)
        if emergency:
            return way.in_emergency(simulate=simulate)
        return way.of(migration_id, simulate=simulate)

    def rollback_to(
        self,
        version: str,
        user: str | None = None,
        *,
        simulate: bool = False,
        on_collision: str = "stop",
        consent: Collection[str] | None = None,
        why: str = "",
    ) -> "RollbackReport":
        """Undo everything that led past a version, of the store and of all users. Otherwise as `rollback`."""
        way = self._way_back(user, on_collision=on_collision, consent=consent, why=why)
        return way.to(SchemaVersion.parse(version), simulate=simulate)

    def rollback_migration(self, migration_id: str, user: str | None = None) -> "RollbackReport":
        """The design's name for `rollback`."""
        return self.rollback(migration_id, user)

    def _way_back(
        self, user: str | None, *, on_collision: str, consent: Collection[str] | None, why: str
    ) -> "Rollback":
        from syncengine.migrate.rollback import Rollback

        return Rollback(self._context(user, {}), on_collision=on_collision, consent=consent, why=why)

    # Restore points.

    def make_restore_point(self, reason: str = "asked for by the app") -> "RestorePoint":
        """Seal a copy of the store as it is now. Raises KeyUnavailable, RestorePointImpossible, DiskFull."""
        from syncengine.local.restore_points import make_restore_point

        return make_restore_point(self._store, keys=self._keys, reason=reason)

    def reseal_restore_points(
        self, *, old_keys: "KeyProvider | Iterable[KeyProvider]", keys: "KeyProvider | None" = None
    ) -> "ResealReport":
        """Seal every restore point that one of the old keys opens for the engine's key, or for the one of `keys`.

        What cannot be opened is named and stays as it is; repeating it is safe. After another key than the engine's
        was given, open the engine with that one. Raises KeyUnavailable, RestorePointImpossible, DiskFull.
        """
        from syncengine.local.resealing import reseal

        old = old_keys if isinstance(old_keys, Iterable) else (old_keys,)
        return reseal(self._store, old_keys=old, keys=keys or self._keys)

    def restore(
        self,
        restore_point_id: int,
        user: str | None = None,
        *,
        simulate: bool = False,
        consent: Collection[str] = (),
    ) -> "RestoreReport":
        """Take the whole store back to a restore point; what that loses goes to quarantine.

        Rows that only a migration changed since are not lost. `consent` names the other users whose rows it touches.
        Errors and the rest: those of `syncengine.local.restoring.restore`.
        """
        from syncengine.local.restoring import restore
        from syncengine.migrate.brought_forward import bring_forward

        context = self._context(user, {})
        return restore(
            self._store,
            restore_point_id,
            keys=self._keys,
            simulate=simulate,
            user=user,
            consent=consent,
            bring_forward=lambda copy: bring_forward(copy, context),
        )
