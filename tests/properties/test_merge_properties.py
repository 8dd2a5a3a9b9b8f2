"""Merging, for any chain of edits: checked against an independent account of what each side did."""

from hypothesis import given, settings
from hypothesis import strategies as st

from syncengine.sync.merge import Edit, Merged, Policy, merged

FIELDS = ("a", "b", "c")
values = st.integers(min_value=0, max_value=2)
rows = st.fixed_dictionaries(dict.fromkeys(FIELDS, values))
policies = st.sampled_from([Policy(name=name) for name in ("merge", "server_wins", "client_wins")])


@st.composite
def chains(draw: st.DrawFn) -> tuple[dict | None, list[Edit], dict | None]:
    """(the row before, edits as capture writes them, the row after)."""
    row = draw(st.none() | rows)
    before, edits = (None if row is None else dict(row)), []
    for number in range(1, draw(st.integers(min_value=1, max_value=5)) + 1):
        if row is None:
            row = draw(rows)
            edits.append(Edit(entry_id=number, kind="put", set=dict(row)))
        elif draw(st.booleans()):
            changed = draw(st.dictionaries(st.sampled_from(FIELDS), values, min_size=1))
            old = {name: row[name] for name in changed}
            edits.append(Edit(entry_id=number, kind="patch", set=changed, before=old))
            row = {**row, **changed}
        elif draw(st.booleans()):
            edits.append(Edit(entry_id=number, kind="delete", before=dict(row)))
            row = None
    if not edits:
        old = {} if row is None else {"a": row["a"]}
        row = {**(row or draw(rows)), "a": 2}
        kind = "patch" if before is not None else "put"
        edits.append(Edit(entry_id=9, kind=kind, set={"a": 2} if old else dict(row), before=old or None))
    return before, edits, row


def sent(server: dict | None, done: Merged, edits: list[Edit]) -> dict | None:
    """The cloud's row after what is left of the queue, by the cloud's own rules."""
    by_id = {edit.entry_id: edit for edit in edits} | {edit.entry_id: edit for edit in done.edits}
    for entry_id in sorted(by_id.keys() - set(done.dropped) - set(done.set_aside)):
        edit = by_id[entry_id]
        if edit.kind == "delete":
            server = None
        elif edit.kind == "put":
            server = dict(edit.set)
        else:
            assert server is not None, "a patch never meets a row that is gone"
            server = {**server, **edit.set}
    return server


@settings(deadline=None, max_examples=500)
@given(chains(), st.none() | rows, policies)
def test_what_is_sent_makes_the_cloud_what_the_table_holds(chain, server, policy):
    _, edits, local = chain
    done = merged(server, local=local, edits=edits, policy=policy)
    assert sent(server, done, edits) == done.row


@settings(deadline=None, max_examples=500)
@given(chains(), rows, policies)
def test_no_field_that_only_one_side_changed_is_lost(chain, server, policy):
    before, edits, local = chain
    done = merged(server, local=local, edits=edits, policy=policy)
    if before is None or local is None or done.row is None or any(edit.kind != "patch" for edit in edits):
        return
    for name in FIELDS:
        if server[name] == before[name]:
            assert done.row[name] == local[name]
        elif local[name] == before[name] and not any(name in (edit.set or {}) for edit in edits):
            assert done.row[name] == server[name]


@settings(deadline=None, max_examples=500)
@given(chains(), rows, policies)
def test_every_value_that_gives_way_is_in_a_conflict(chain, server, policy):
    before, edits, local = chain
    done = merged(server, local=local, edits=edits, policy=policy)
    told = {conflict.field: conflict for conflict in done.conflicts}
    if done.row is None or local is None or "*" in told:
        return
    touched = {name for edit in edits for name in (edit.set or {})}
    for name in FIELDS:
        theirs_is_new = before is None or server[name] != before[name]
        if theirs_is_new and done.row[name] != server[name]:
            assert told[name].server == server[name]
        if name in touched and done.row[name] != local[name]:
            assert told[name].local == local[name]


@settings(deadline=None, max_examples=300)
@given(chains(), rows, policies)
def test_merging_again_with_the_same_row_changes_nothing(chain, server, policy):
    _, edits, local = chain
    once = merged(server, local=local, edits=edits, policy=policy)
    by_id = {edit.entry_id: edit for edit in edits} | {edit.entry_id: edit for edit in once.edits}
    left = [by_id[entry_id] for entry_id in sorted(by_id.keys() - set(once.dropped) - set(once.set_aside))]
    again = merged(server, local=once.row, edits=left, policy=policy)
    assert again.row == once.row
    assert not again.conflicts
