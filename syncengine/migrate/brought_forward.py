"""What a copy from before would be today: the migrations that have run on the store since, run again on the copy."""

from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed
from syncengine.migrate.pace import Pace
from syncengine.migrate.path_run import PathRun
from syncengine.migrate.plan import make_plan
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.run import RunContext, run_step
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.plan import Step
    from syncengine.migrate.results import MigrationResult


def bring_forward(copy: "Store", context: RunContext) -> None:
    """Take a private copy to the present version of `context.store`, for all users that have been here.

    What fails, is skipped or finds no source any more leaves rows as they were; nothing outside of the copy changes.
    """
    present = read_installed(context.store)
    prefix = user_scope("")
    users: list[str | None] = [scope.removeprefix(prefix) for scope in present.versions if scope.startswith(prefix)]
    for user in users or [None]:
        quiet = replace(
            context,
            store=copy,
            user=user,
            reporter=MigrationProgressReporter(clock=copy.clock),
            pace=Pace(clock=copy.clock),
            keys=None,
        )
        plan = make_plan(read_installed(copy), context.registry, user=user, to=present.schema_version(STORE_SCOPE))

        def run(step: "Step", quiet: RunContext = quiet) -> "MigrationResult":
            return run_step(step, quiet)

        PathRun(plan, quiet, run=run).go()
