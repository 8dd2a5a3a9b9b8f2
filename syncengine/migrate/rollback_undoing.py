"""One rollback that is going on: what its ways back share, and where they put what has no room."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.local.whole_row import row_as_json
from syncengine.migrate.definition import MigrationDefinition
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.rollback_report import Collision
from syncengine.migrate.work import Work

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.migrate.registry import Collection, MigrationRegistry
    from syncengine.migrate.rollback_plan import Ground, UndoStep
    from syncengine.migrate.run import RunContext

COLLISIONS_MAX = 1_000
"""More are counted and set aside, not listed."""


@dataclass(slots=True, kw_only=True)
class Undoing:
    """The rollback of one step."""

    context: "RunContext"
    ground: "Ground"
    step: "UndoStep"
    collisions: list[Collision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def store(self) -> "Store":
        return self.context.store

    @property
    def registry(self) -> "MigrationRegistry":
        return self.context.registry

    def work(self, definition: MigrationDefinition) -> Work:
        """What the migration's code sees."""
        return Work(
            store=self.store,
            definition=definition,
            collections=self.registry.collections,
            user=self.step.user,
            now_ms=self.store.clock.now_ms(),
            sources=self.context.sources,
            options=self.context.options,
        )

    def close_source(self, work: Work) -> None:
        """Let go of the legacy store that the work has read; the host's own Source stays open."""
        source = work.__dict__.get("source")
        if source is not None and source is not self.context.sources.get(work.definition.source or ""):
            source.close()

    @property
    def now(self) -> str:
        return iso(self.store.clock.now_ms())

    def collection(self, name: str) -> "Collection":
        return self.registry.collections[name]

    def set_aside(self, name: str, columns: Sequence[str], row: "Row", why: Rejection) -> None:
        """A collision: the present form of a row goes whole into quarantine."""
        collection = self.collection(name)
        key = str(row[columns.index(collection.key)])
        owner = None if collection.owner is None else str(row[columns.index(collection.owner)])
        self.store.run(
            "rollback",
            "set_aside",
            migration=self.step.id,
            owner=owner,
            collection=name,
            row_key=key,
            body=row_as_json(columns, row),
            error_code=why.code,
            error_text=why.text,
            field=why.field,
            shape_version=self.store.value("runs", "shape_version", name=name),
            now=self.now,
        )
        self.collide(name, owner=owner, key=key, why=why)

    def collide(self, name: str, *, owner: str | None, key: str, why: Rejection) -> None:
        """List it for the person who decides."""
        if len(self.collisions) < COLLISIONS_MAX:
            self.collisions.append(
                Collision(
                    migration=self.step.id,
                    collection=name,
                    owner=owner,
                    key=key,
                    code=why.code,
                    why=why.text,
                    field=why.field,
                )
            )

    def warn(self, text: str) -> None:
        """A sentence for the report and the history."""
        self.warnings.append(text)
