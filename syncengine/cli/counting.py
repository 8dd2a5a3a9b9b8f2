"""`status` and `plan`: where the store stands and what is left to do, read from its rows."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import app_option, json_option, source_option, store_option, user_option
from syncengine.cli.showing import counted, printable, show_facts, show_json

if TYPE_CHECKING:
    from syncengine.cli.looking import Look
    from syncengine.migrate.failures import FailedMigration
    from syncengine.migrate.plan import Plan
    from syncengine.migrate.registry import MigrationRegistry


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=False)
@user_option()
@json_option()
def status(store: str, registry: "MigrationRegistry | None", user: str | None, as_json: bool) -> Exit:
    """Where the store stands: versions, outbox, quarantine, cloud.

    With --app also what still has to be migrated. Exit status 4 with rows in quarantine, else 3 when something is
    left to migrate or to send, or a collection is blocked by what was skipped or rolled back, else 0.
    """
    from syncengine.cli.looking import looking_at

    with looking_at(store) as look:
        found = _status(look, registry, user)
    if as_json:
        show_json(found)
    else:
        show_facts(_facts(found))
    if found["quarantined"]:
        return Exit.QUARANTINE
    return Exit.WAITING if _is_left(found) else Exit.DONE


def _status(look: "Look", registry: "MigrationRegistry | None", user: str | None) -> dict[str, Any]:
    """The keys of the engine's own status, with None for what only the app knows."""
    from syncengine.migrate.erasing import read_erasures

    migration = _migration(look, registry, user)
    waiting, claimed, held, oldest_at, others = look.rows("looks", "queue", user=user)[0]
    confirmed, attempts, last_success_at, next_try_at, last_error = look.rows("looks", "drain", user=user)[0]
    quarantined = look.value("looks", "quarantined", user=user)
    network = dict(look.rows("status", "network", owner=user))
    erasures = read_erasures(look)
    found = {
        "store": look.path,
        "user": user,
        "synced": False,  # what all the rest says together, below
        "migration": migration,
        "collections": None if registry is None else _collections(look, registry),
        "outbox": {
            "unsent": waiting + claimed + held,
            "waiting": waiting,
            "claimed": claimed,
            "held": held,
            "confirmed": confirmed,
            "oldest_at": oldest_at,
        },
        "others_unsent": others,
        "reading": _reading(look, user),
        "quarantined": quarantined,
        "erasures": asdict(erasures),
        "connectivity": {
            "verdict": network.get("probe_verdict", "unknown"),
            "reason": network.get("probe_reason"),
            "at": network.get("probe_at"),
        },
        "sync": {
            "attempts": attempts,
            "last_success_at": last_success_at,
            "next_try_at": None if next_try_at is None or next_try_at <= _now() else next_try_at,
            "last_error": last_error,
        },
    }
    found["synced"] = _state(found) == "synced"
    return found


def _now() -> str:
    from syncengine.clock import SystemClock, iso

    return iso(SystemClock().now_ms())


def _reading(look: "Look", user: str | None) -> dict[str, Any]:
    """What came from the cloud; of one user, or of all."""
    at_head, read_at, parked, conflicts = look.rows("looks", "reading", user=user)[0]
    return {
        "at_head": None if at_head is None else bool(at_head),
        "read_at": read_at,
        "parked": parked,
        "conflicts": conflicts,
    }


def _collections(look: "Look", registry: "MigrationRegistry") -> dict[str, Any]:
    from syncengine.clock import SystemClock
    from syncengine.migrate.drift import drifted_in
    from syncengine.migrate.readiness import bars_of, states_of

    bars = bars_of(registry, look, clock=SystemClock(), drifted=drifted_in(look))
    return {name: asdict(state) for name, state in states_of(bars, registry).items()}


def _is_too_old(found: dict[str, Any]) -> bool:
    """Does the cloud ask for a newer version of the app?"""
    return bool(found["connectivity"]["verdict"] == "schema_blocked")


def _is_left(found: dict[str, Any]) -> bool:
    """Is there something to migrate, to send or to look at? What was skipped or rolled back is left, too."""
    outbox, migration = found["outbox"], found["migration"]
    left = outbox["unsent"] + (migration["pending"] or 0) + migration["queued"]
    reading = found["reading"]
    left += reading["parked"] + (reading["at_head"] is False) + _is_too_old(found)
    return bool(left or found["quarantined"] or migration["superseded"] or migration["failed"] or _is_blocked(found))


def _is_blocked(found: dict[str, Any]) -> bool:
    """Can the app not use a collection now?"""
    return any(state["state"] == "blocked" for state in (found["collections"] or {}).values())


def _migration(look: "Look", registry: "MigrationRegistry | None", user: str | None) -> dict[str, Any]:
    from syncengine.vocabulary import STORE_SCOPE, user_scope

    installed = look.installed()
    plan = None if registry is None else _plan(look, registry, user)
    current = plan.current if plan else installed.schema_version(STORE_SCOPE)
    clouds = installed.cloud_versions
    cloud = clouds.get(user_scope(user)) if user else min(clouds.values(), default=None)
    queued = {
        name for name, scope in installed.queued - installed.completed if user is None or scope == user_scope(user)
    }
    return {
        "current": None if current is None else str(current),
        "target": str(plan.target) if plan else None,
        "cloud": None if cloud is None else str(cloud),
        "pending": len(plan.steps) if plan else None,
        "queued": len(queued),
        "failed": [asdict(failed) for failed in _failed(look, registry, user)],
        "superseded": plan.superseded if plan else None,
    }


def _failed(look: "Look", registry: "MigrationRegistry | None", user: str | None) -> "tuple[FailedMigration, ...]":
    from syncengine.migrate.failures import failed_migrations

    listed = None if registry is None else {migration.id for migration in registry.migrations}
    return failed_migrations(look, user=user, among=listed)


def _facts(found: dict[str, Any]) -> dict[str, object]:
    outbox, migration = found["outbox"], found["migration"]
    since = f", the oldest since {outbox['oldest_at']}" if outbox["oldest_at"] else ""
    return {
        "store": found["store"],
        "user": found["user"] or "all",
        "state": _state(found),
        "version": _version(migration),
        **({"read-only": migration["superseded"]} if migration["superseded"] else {}),
        **{f"failed: {failed['id']}": failed["why"] for failed in migration["failed"]},
        **_not_ready(found["collections"] or {}),
        "cloud version": migration["cloud"],
        "outbox": f"{outbox['waiting']} waiting, {outbox['claimed']} being sent, {outbox['held']} held{since}",
        **({"others unsent": found["others_unsent"]} if found["others_unsent"] else {}),
        **_read(found["reading"]),
        "quarantine": found["quarantined"],
        **_erased(found["erasures"]),
        "confirmed": outbox["confirmed"],
        "network": _network(found["connectivity"]),
        "last success": found["sync"]["last_success_at"],
        "next try": found["sync"]["next_try_at"],
        "last error": found["sync"]["last_error"],
    }


def _network(connectivity: dict[str, Any]) -> str:
    told = {
        "too_old_to_read": "schema_blocked: this app may send and not read; update it",
        "app_too_old": "schema_blocked: the cloud refuses this version of the app; update it",
    }
    verdict = told.get(connectivity["reason"], str(connectivity["verdict"]))
    return f"{verdict} (last known, since {connectivity['at']})" if connectivity["at"] else verdict


def _read(reading: dict[str, Any]) -> dict[str, object]:
    """Lines for what came from the cloud and needs a look."""
    facts: dict[str, object] = {}
    if reading["at_head"] is False:
        facts["reading"] = "not at the end yet"
    if reading["parked"]:
        facts["parked"] = reading["parked"]
    if reading["conflicts"]:
        facts["conflicts"] = reading["conflicts"]
    return facts


def _erased(erasures: dict[str, Any]) -> dict[str, object]:
    """Lines for what may still hold values that a migration has erased."""
    facts: dict[str, object] = {}
    if erasures["unfinished"]:
        facts["erased, not gone yet"] = f"{', '.join(erasures['unfinished'])}: the app's next start goes on"
    if erasures["quarantined"]:
        items = ", ".join(map(str, erasures["quarantined"]))
        facts["old values in quarantine"] = f"{items}: retry or discard each"
    return facts


def _not_ready(collections: dict[str, Any]) -> dict[str, object]:
    """A line for each collection that the app cannot use now."""
    return {
        f"{'not ready' if state['state'] == 'blocked' else state['state']}: {name}": f"{state['why']}. {state['fix']}"
        for name, state in collections.items()
        if state["state"] != "usable"
    }


def _state(found: dict[str, Any]) -> str:
    if found["quarantined"]:
        return "needs attention"
    if found["migration"]["superseded"]:
        return "superseded"
    if found["migration"]["pending"] or found["migration"]["failed"]:
        return "to be migrated"
    if found["reading"]["parked"] and not found["outbox"]["unsent"]:
        return "parked"
    if _is_too_old(found):
        return "to be updated"
    if _is_blocked(found) and not found["outbox"]["unsent"]:
        return "blocked"
    if _is_left(found):
        return "waiting"
    return "synced" if found["sync"]["last_success_at"] else "local"


def _version(migration: dict[str, Any]) -> str:
    waiting = counted(migration["queued"], "migration waits", "migrations wait")
    queued = f", {waiting} for the cloud" if migration["queued"] else ""
    if migration["target"] is None:
        return f"{migration['current'] or 'none yet'}{queued} (--app shows what is pending)"
    if migration["superseded"]:
        return (
            f"{migration['current']}, newer than this app, which knows versions up to {migration['target']}{queued}"
        )
    pending = counted(migration["pending"], "migration", "migrations")
    return f"{migration['current']} of {migration['target']}, {pending} pending{queued}"


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
@user_option()
@source_option()
@click.option("--to", metavar="VERSION", help="No further than this version.")
@click.option("--rehearse", is_flag=True, help="Run it on a private copy, and show rows before and after.")
@json_option()
def plan(
    *,
    store: str,
    registry: "MigrationRegistry",
    user: str | None,
    sources: dict[str, str],
    to: str | None,
    rehearse: bool,
    as_json: bool,
) -> Exit:
    """What `migrate` would do; nothing of the store is changed.

    With --rehearse it is done on a private copy: counts, what would be set aside, time, disk, and some rows before
    and after, which --json has. Exit status 5 when a rehearsal fails, else 4 when it sets rows aside, else 3 when
    there is something to do, 1 when the store is newer than the app, else 0.
    """
    found = _rehearsed(store, registry, user, sources, to) if rehearse else _looked_at(store, registry, user, to)
    rehearsal = found.rehearsal
    if as_json:
        show_json({**found.to_json(), "rehearsal": rehearsal and rehearsal.to_json()})
    else:
        click.echo(printable(str(rehearsal or found), keep="\n"))
    if found.superseded:
        return Exit.ERROR
    if rehearsal is not None and not rehearsal.success:
        return Exit.MIGRATION_FAILED
    if rehearsal is not None and rehearsal.quarantined_count:
        return Exit.QUARANTINE
    return Exit.DONE if found.is_empty else Exit.WAITING


def _looked_at(store: str, registry: "MigrationRegistry", user: str | None, to: str | None) -> "Plan":
    from syncengine.cli.looking import looking_at

    with looking_at(store) as look:
        return _plan(look, registry, user, to=to)


def _rehearsed(
    store: str, registry: "MigrationRegistry", user: str | None, sources: dict[str, str], to: str | None
) -> "Plan":
    from syncengine.cli.looking import looking_at
    from syncengine.engine import Engine

    with looking_at(store):
        pass  # an engine would make a store that is not there
    with Engine.open(store, registry=registry, user=user, sources=sources) as engine:
        return engine.migrations.plan(user, to=to, rehearse=True)


def _plan(look: "Look", registry: "MigrationRegistry", user: str | None, *, to: str | None = None) -> "Plan":
    from syncengine.migrate.planning import plan_of, version_of_plan

    return plan_of(look, registry, user=user, to=version_of_plan(registry, to))
