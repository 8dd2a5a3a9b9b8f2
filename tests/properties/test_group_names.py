"""Which entries arrive together is decided when they are written, however late their group gets its name."""

import tempfile
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncengine.clock import SystemClock
from syncengine.local.hosting import writing
from syncengine.local.store import Store
from syncengine.migrate.taking_out import _forget_queue
from syncengine.outbox.capture import install_capture
from syncengine.outbox.filing import file_entries
from syncengine.outbox.queue import Outbox
from syncengine.settings import Settings

CREATE = "CREATE TABLE walks (user_id TEXT NOT NULL, id TEXT NOT NULL, note TEXT, PRIMARY KEY (user_id, id)) STRICT"
OWNERS = st.sampled_from(["ann", "bob"])
EDITS = st.lists(st.tuples(OWNERS, st.sampled_from(["", "", "", "\0"])), min_size=1, max_size=5)
"""Whose row, and what is in it: NUL is never sent."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("another program"), EDITS),
        st.tuples(st.just("write"), EDITS, st.booleans()),
        st.tuples(st.just("file")),
        st.tuples(st.just("claim"), OWNERS, st.integers(1, 4)),
        st.tuples(st.just("arrived"), OWNERS),
        st.tuples(st.just("sent"), OWNERS),
        st.tuples(st.just("taken out"), OWNERS),
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
        self.groups, self.owners = {}, {}
        self.is_open = False

    def add(self, owner, note, *, group=None):
        number = len(self.groups) + 1
        self.store.query("INSERT INTO walks (user_id, id, note) VALUES (?, ?, ?)", (owner, f"k{number}", note))
        self.groups[number] = group or (self.groups[number - 1] if self.is_open else number)
        self.owners[number] = owner
        self.is_open = True

    def another_program(self, edits):
        with self.store.transaction():
            for owner, note in edits:
                self.add(owner, note)

    def write(self, edits, looks):
        first = len(self.groups) + 1
        ending = partial(file_entries, self.store) if looks else lambda: None
        with writing(self.store, check=lambda _: None, ending=ending):
            for owner, note in edits:
                self.add(owner, note, group=first)
        self.is_open = False

    def file(self):
        file_entries(self.store)
        self.is_open = False

    def claim(self, owner, entries_max):
        batch = self.outbox.claim(owner, entries_max=entries_max, bytes_max=99_999)
        self._ask_whether_open()
        self.check({entry.entry_id: entry.group_id for entry in batch.entries})
        self.check_held()

    def arrived(self, owner):
        with self.store.transaction():
            claimed = "SELECT entry_id FROM _sync_outbox WHERE owner = ? AND state = 'claimed'"
            for (entry_id,) in self.store.query(claimed, (owner,)):
                self.store.run("outbox", "delete", entry_id=entry_id)
        self._ask_whether_open()

    def sent(self, owner):
        self.claim(owner, 99)
        self.arrived(owner)

    def taken_out(self, owner):
        with self.store.transaction():
            _forget_queue(self.store, owner)
        self._ask_whether_open()

    def _ask_whether_open(self):
        newest = self.store.query("SELECT entry_id, fresh FROM _sync_outbox ORDER BY entry_id DESC LIMIT 1")
        self.is_open = newest == [(len(self.groups), 1)]

    def look(self):
        self.check({entry.entry_id: entry.group_id for entry in self.outbox.entries(entries_max=99)})

    def check_held(self):
        """What was written together with something that is in quarantine waits for the person who looks at it."""
        states = dict(self.store.query("SELECT entry_id, state FROM _sync_outbox"))
        for (aside,) in self.store.query("SELECT json_extract(body, '$.entry_id') FROM _sync_quarantine"):
            together = [n for n, group in self.groups.items() if group == self.groups[aside]]
            mates = [number for number in together if self.owners[number] == self.owners[aside]]
            assert {states.get(number, "held") for number in mates} == {"held"}

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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_entries_are_together_as_if_each_had_been_told_its_group_when_it_was_written(steps):
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(folder)
        try:
            for name, *values in [*steps, ("claim", "ann", 99), ("claim", "bob", 99), ("file",)]:
                getattr(queue, name.replace(" ", "_"))(*values)
                queue.look()
        finally:
            queue.store.close()
