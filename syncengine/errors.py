"""Every error: what happened, why, what to do; in four families by who must act.

`WillRetry`: nobody. `NeedsDeveloper`: who wrote the app. `NeedsUser`: who uses it. `DataAtRisk`: stop and look.
Each class has a heading of the same name in docs/recovery.md.
"""

COPY_FIRST = (
    "Copy the file with its -wal before anything else. Then `syncengine doctor` says what is hurt, and "
    "`syncengine restore-points` which copy can take its place."
)
"""What to do about a damaged store."""


class SyncEngineError(Exception):
    """Base of all errors that the engine raises on purpose.

    `what` happened, `why` (the cause, without row contents), `fix` (what to do, and what is untouched).
    """

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    @classmethod
    def anchor(cls) -> str:
        """The heading in docs/recovery.md: MigrationFailed is at #migration-failed."""
        name = cls.__name__
        dashed = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
        return dashed.lstrip("-")

    @classmethod
    def code(cls) -> str:
        """The same name as a word for tables and JSON: migration_failed."""
        return cls.anchor().replace("-", "_")

    def in_one_line(self) -> str:
        """What and why, for a table or a log."""
        return f"{self.what.removesuffix('.')}: {self.why}" if self.why else self.what

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why:  {self.why}")
        if self.fix:
            lines.append(f"  fix:  {self.fix}")
        lines.append(f"  help: docs/recovery.md#{self.anchor()}")
        return "\n".join(lines)


class WillRetry(SyncEngineError):
    """Nobody has to act: the engine tries again by itself."""


class NeedsDeveloper(SyncEngineError):
    """A mistake in the app or in its migrations; the data is untouched."""


class NeedsUser(SyncEngineError):
    """Something outside the program has to change: sign in, update the app, free a file."""


class DataAtRisk(SyncEngineError):
    """The engine stopped before it could do harm. Look before anything else is tried."""


class StoreBusy(WillRetry):
    """Another process held the write lock for longer than we wait."""


class LeaseLost(WillRetry):
    """Another process took over a migration that this one was too slow with; nothing was written twice."""


class BackendUnreachable(WillRetry):
    """No answer from the backend: no route, refused, timed out, cut. It may or may not have acted."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", reason: str = "") -> None:
        """`reason`: "name_not_found", "no_answer" (silence until the deadline), "refused", "no_route" or "cut"."""
        super().__init__(what, why=why, fix=fix)
        self.reason = reason


class BackendUnavailable(WillRetry):
    """The backend answered that it cannot serve now (5xx)."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retry_after_ms = retry_after_ms


class RateLimited(BackendUnavailable):
    """The backend asked for fewer requests (429)."""


class NotOurServer(WillRetry):
    """Something answered, but not our backend: a captive portal, a proxy page, another service."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", reason: str = "") -> None:
        """`reason`: "login_page", "another_server", "stale_answer" (to another request) or "tls_refused"."""
        super().__init__(what, why=why, fix=fix)
        self.reason = reason


class AuthRequired(NeedsUser):
    """The backend refused the token (401, 403), or the app gave none. The queue is kept."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", status: int = 0) -> None:
        """`status`: what the backend answered; 0: it was not asked, or the token is another user's."""
        super().__init__(what, why=why, fix=fix)
        self.status = status


class QuotaExceeded(NeedsUser):
    """The backend has no room for more rows of this user (507). The queue is kept; deletions are taken."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retry_after_ms = retry_after_ms


class BatchRefused(NeedsDeveloper):
    """The backend refused a whole request for good (400, 413, 422), so it is cut in halves to find the cause."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", status: int = 0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status = status


class SequenceGap(NeedsDeveloper):
    """The backend expects another sequence number from this device than the one that was sent."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", expected: int = 0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.expected = expected


class CursorGone(WillRetry):
    """The backend cannot read on from where this device stood, so the next pull reads from the start."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", reason: str = "other_epoch") -> None:
        """`reason`: "below_floor" (deletions since then are forgotten) or "other_epoch" (the cloud was restored)."""
        super().__init__(what, why=why, fix=fix)
        self.reason = reason


class ProtocolViolation(NeedsDeveloper):
    """Our backend answered, but not by the protocol; nothing of the answer was used."""


class BackendAddressRefused(NeedsDeveloper):
    """The backend's address cannot be used: no http(s), plain HTTP to another machine, or a password in it."""


class DatabaseRefused(NeedsDeveloper):
    """The server cannot use the database that it was given: an address that is none, or a role that may too much."""


class TlsTooWeak(NeedsDeveloper):
    """The trust that the host gave for the backend would take old TLS, or a certificate of anybody."""


class TokenInvalid(NeedsDeveloper):
    """The token was given as something that cannot be called; the engine asks for a fresh one at each call."""


class EntryInDoubt(WillRetry):
    """The cloud has not said yet whether it has a quarantined entry, so sending it again could do it twice."""


class QuarantineItemUnknown(NeedsDeveloper):
    """There is no open quarantine item with this number."""


class QuarantineEditRefused(NeedsUser):
    """A new body for a quarantine item does not fit the shape that the item was written in."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", field: str | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.field = field


class QuarantineExportRefused(NeedsUser):
    """A file for exported quarantine items is there already, or cannot be made."""


class RoundFailed(NeedsDeveloper):
    """A sync round failed on this device, not at the cloud: a trigger of the app, say, names what is not there."""


class RoundUnfinished(WillRetry):
    """The sync round that was asked for is still going on; it goes on in the background."""


class EngineClosed(NeedsDeveloper):
    """The engine was used after close()."""


class ForkedEngine(NeedsDeveloper):
    """A forked child used an engine that its parent opened; its commits would be lost."""


class SecondLibrary(NeedsDeveloper):
    """A second SQLite library, or plain open(), was about to touch the live store in this process."""


class StoreAlreadyOpen(NeedsDeveloper):
    """This process has the same store open already; one engine serves all its threads."""


class TransactionEnded(NeedsDeveloper):
    """SQLite ended a transaction before its block did; nothing of the block was kept."""


class GroupTooLarge(NeedsDeveloper):
    """One block of `engine.write()` made more changes than may travel together; nothing of it was kept."""


class CalledFromInside(NeedsDeveloper):
    """A call that has to wait for the very block or callback that makes it; it was refused at once."""


class StatementUnknown(NeedsDeveloper):
    """A named SQL statement that is in no .sql file."""


class PragmaRefused(DataAtRisk):
    """SQLite did not take a setting that safety depends on."""


class RegistryInvalid(NeedsDeveloper):
    """The list of migrations has gaps, repeats, cycles, or does not lead to the newest version."""


class MigrationChanged(NeedsDeveloper):
    """A migration is not the code that was frozen in the lock file, or was never frozen."""


class MigrationInvalid(NeedsDeveloper):
    """One migration is declared in a way that cannot run."""


class MigrationDenied(NeedsDeveloper):
    """Code inside a migration tried what it must not: end the transaction, attach a file, write engine tables."""


class MigrationFailed(DataAtRisk):
    """A migration stopped. The store is as it was before this migration."""


class RollbackFailed(DataAtRisk):
    """A rollback stopped. The store is as it was before the rollback."""


class RollbackRefused(NeedsUser):
    """A rollback that cannot be done, or that other users have to agree to; nothing was changed."""


class DeveloperModeRequired(NeedsDeveloper):
    """A call for emergencies, in an app that was not opened in developer mode; nothing was changed."""


class QuarantineBudgetExceeded(MigrationFailed):
    """More rows failed than the migration allows, so it was rolled back whole."""


class ReconciliationFailed(MigrationFailed):
    """Rows read and rows accounted for do not add up, so the migration was rolled back whole."""


class TableDisturbed(MigrationFailed):
    """Another program altered a table again and again while it was being rewritten, so the migration was given up."""


class StoreMissing(NeedsUser):
    """There is no store at the path; a command that only looks does not make one."""


class StoreForeign(NeedsUser):
    """The file is a SQLite database of another program, or no database at all; it was not changed."""


class StoreUnusable(NeedsUser):
    """The store's file, or its folder, cannot be read or written: rights, a full disk, a lost mount."""


class StoreSuperseded(NeedsUser):
    """The store was written by a newer version of the app; it is left as it is."""


class ExportImpossible(NeedsUser):
    """A report about the store cannot be written where it was asked for; nothing was written over."""


class StoreUnknown(NeedsDeveloper):
    """The store is at a version from which the app's migrations know no way on; it is left as it is."""


class StoreDamaged(DataAtRisk):
    """SQLite reports damage in the file, or its own tables hold what the engine never writes; it was not changed."""


class TextUnreadable(StoreDamaged):
    """A text in the store is no UTF-8, so what was asked for cannot be said; nothing was changed."""


class ShapeDrifted(DataAtRisk):
    """A collection's table is not as its migrations made it; the other collections work."""


class StoreReplaced(DataAtRisk):
    """The store's file was deleted or replaced while it was open; nothing was written to it any more."""


class DiskFull(DataAtRisk):
    """No space was left; the transaction was rolled back whole."""


class CollectionNotReady(NeedsUser):
    """A collection whose migration is outstanding was read or written."""


class SourceMissing(NeedsUser):
    """A legacy store that a migration needs is not where the app said."""


class SourceBroken(DataAtRisk):
    """A legacy store exists but cannot be read whole; it was not changed."""


class KeyUnavailable(NeedsUser):
    """The key that seals restore points cannot be had; nothing was written."""


class RestorePointImpossible(NeedsUser):
    """A restore point cannot be made here, for lack of space or rights; the store is as it was."""


class RestorePointUnknown(NeedsDeveloper):
    """There is no restore point with this number."""


class RestorePointUnusable(DataAtRisk):
    """A restore point is missing, was altered, or is sealed for another key; nothing was changed."""


class RestoreRefused(NeedsUser):
    """A restore would take back what users wrote who were not asked; nothing was changed."""


class UnsentChanges(NeedsUser):
    """A user has changes that exist on this device alone, and nobody said what shall become of them."""

    def __init__(
        self, what: str, *, why: str = "", fix: str = "", count: int = 0, oldest_at: str | None = None
    ) -> None:
        """`count` changes and quarantine items; `oldest_at` is ISO-8601 UTC, None where it is not known."""
        super().__init__(what, why=why, fix=fix)
        self.count = count
        self.oldest_at = oldest_at


class UserTakenOut(NeedsUser):
    """Another process has taken the user off this device, so nothing more is done for them here."""


class WipeRefused(NeedsUser):
    """What is known of a user cannot be taken off this device without harm to others; nothing was changed."""


class OtherUsersRowsChanged(MigrationFailed):
    """A migration that runs for one user changed rows of another, so it was rolled back whole."""
