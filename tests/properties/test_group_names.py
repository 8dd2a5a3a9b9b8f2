"""Which entries arrive together is decided when they are written, however late their group gets its name."""

import tempfile
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncengine.clock import SystemClock
from syncengine.local.hosting import writing
from syncengine.local.store import Store
from syncengine.outbox.capture import install_capture
from syncengine.outbox.filing import file_entries
from syncengine.outbox.queue import Outbox
from syncengine.settings import Settings

CREATE = "CREATE TABLE walks (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"
OWNERS = st.sampled_from(["ann", "bob"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("another program"), st.lists(OWNERS, min_size=1, max_size=4)),
        st.tuples(st.just("write"), st.lists(OWNERS, min_size=1, max_size=3), st.booleans()),
        st.tuples(st.just("file")),
        st.tuples(st.just("claim"), OWNERS, st.integers(1, 4)),
        st.tuples(st.just("arrived"), OWNERS),
        st.tuples(st.just("look")),
    ),
    max_size=14,
)


class Queue:
    """A store, and beside it what each entry would be told at once: the group of the newest while that is open."""

    def __init__(self, folder):
        self.store = Store(str(Path(folder) / "app.db"), settings=Settings(), clock=SystemClock())
        with self.store.transaction():
            self.store.query(CREATE)
            self.store.query(
                "INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint) "
                "VALUES ('walks', 'id', 'user_id', '1.0.0', '')"
            )
            install_capture(self.store, "walks")
        self.outbox = Outbox(self.store)
        self.groups, self.owners, self.gone = {}, {}, set()
        self.is_open = False

    def add(self, owner, *, group=None):
        number = len(self.groups) + 1
        self.store.query("INSERT INTO walks (user_id, id) VALUES (?, ?)", (owner, f"k{number}"))
        self.groups[number] = group or (self.groups[number - 1] if self.is_open else number)
        self.owners[number] = owner
        self.is_open = True

    def another_program(self, owners):
        with self.store.transaction():
            for owner in owners:
                self.add(owner)

    def write(self, owners, looks):
        first = len(self.groups) + 1
        ending = partial(file_entries, self.store) if looks else lambda: None
        with writing(self.store, check=lambda _: None, ending=ending):
            for owner in owners:
                self.add(owner, group=first)
        self.is_open = False

    def file(self):
        file_entries(self.store)
        self.is_open = False

    def claim(self, owner, entries_max):
        batch = self.outbox.claim(owner, entries_max=entries_max, bytes_max=99_999)
        if batch.entries:
            self.is_open = False
        self.check({entry.entry_id: entry.group_id for entry in batch.entries})

    def arrived(self, owner):
        mine = "WHERE owner = ? AND state = 'claimed'"
        with self.store.transaction():
            rows = self.store.query(f"SELECT entry_id FROM _sync_outbox {mine}", (owner,))
            for (entry_id,) in rows:
                self.store.run("outbox", "delete", entry_id=entry_id)
                self.gone.add(entry_id)
        if len(self.groups) in self.gone:
            self.is_open = False

    def look(self):
        self.check({entry.entry_id: entry.group_id for entry in self.outbox.entries(entries_max=99)})

    def check(self, named):
        """Those of one user that are together here are together there."""
        for owner in ("ann", "bob"):
            here = parts({each: name for each, name in named.items() if self.owners[each] == owner})
            assert here == parts({each: self.groups[each] for each in named if self.owners[each] == owner})


def parts(groups):
    found = {}
    for entry_id, group in groups.items():
        found.setdefault(group, set()).add(entry_id)
    return sorted(map(sorted, found.values()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_entries_are_together_as_if_each_had_been_told_its_group_when_it_was_written(steps):
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(folder)
        try:
            for name, *values in [
                *steps,
                ("look",),
                ("file",),
                ("look",),
                ("claim", "ann", 99),
                ("claim", "bob", 99),
            ]:
                getattr(queue, name.replace(" ", "_"))(*values)
                queue.look()
        finally:
            queue.store.close()
