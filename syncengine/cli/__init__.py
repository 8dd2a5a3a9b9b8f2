"""The `syncengine` command: look at a store, migrate it, sync it. Each command's modules load when it is called."""

import click

from syncengine.cli.authoring import freeze, new, squash
from syncengine.cli.controlling import cancel, pause, resume, skip, verify
from syncengine.cli.counting import plan, status
from syncengine.cli.doctor import doctor
from syncengine.cli.exit_codes import MEANING
from syncengine.cli.explaining import explain, receipt
from syncengine.cli.leaving import logout, wipe
from syncengine.cli.listing import conflicts, history, outbox, parked
from syncengine.cli.migrating import migrate
from syncengine.cli.quarantining import quarantine
from syncengine.cli.resealing import new_key, reseal
from syncengine.cli.restoring import restore_points
from syncengine.cli.rolling_back import rollback
from syncengine.cli.schema import schema
from syncengine.cli.syncing import sync

_EXIT_CODES = "\b\nExit status:\n" + "\n".join(f"  {code.value}  {text}" for code, text in MEANING.items())
_HELP = f"""Look at a store of syncengine, migrate it, sync it.

status, plan, history, outbox, conflicts, parked, explain, receipt, quarantine, schema and doctor open the store
read-only and never make one.

{_EXIT_CODES}
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="syncengine")
def main() -> None:
    """All commands; see `_HELP`."""


for _command in (
    status,
    plan,
    migrate,
    rollback,
    sync,
    history,
    outbox,
    conflicts,
    parked,
    explain,
    receipt,
    quarantine,
    logout,
    wipe,
    doctor,
    pause,
    resume,
    cancel,
    skip,
    verify,
    schema,
    new,
    squash,
    freeze,
    restore_points,
):
    main.add_command(_command)
restore_points.add_command(new_key)
restore_points.add_command(reseal)

__all__ = ["main"]
