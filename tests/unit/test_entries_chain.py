"""What a row was before and after each queued entry, and what an entry says in the new shape."""

import json

import pytest

from syncengine.migrate.entries_body import json_text, readable_json, values_of
from syncengine.migrate.entries_chain import Change, Queued, Unknown, passages, queued_of
from syncengine.migrate.entries_form import Form, changes_between, form_of


def edit(kind, *, key="k", set=None, before=None, state="waiting"):  # noqa: A002
    change = Change(kind=kind, key=key, set=set, before=before)
    return Queued(
        entry_id=1, owner="ann", row_key=key, kind=kind, shape_version="1.0.0", state=state, changes=(change,)
    )


def walked(*edits, live):
    return [(way.before, way.after) for way in passages([(e, e.changes[0]) for e in edits], live=live)]


def test_going_back_from_the_live_row_gives_each_state():
    put = edit("put", set={"id": "k", "a": 1, "b": 1})
    first = edit("patch", set={"a": 2}, before={"a": 1})
    second = edit("patch", set={"b": 5, "a": 3}, before={"b": 1, "a": 2})
    found = walked(put, first, second, live={"id": "k", "a": 3, "b": 5})
    assert found == [
        (None, {"id": "k", "a": 1, "b": 1}),
        ({"id": "k", "a": 1, "b": 1}, {"id": "k", "a": 2, "b": 1}),
        ({"id": "k", "a": 2, "b": 1}, {"id": "k", "a": 3, "b": 5}),
    ]


def test_a_deleted_row_is_known_by_what_its_delete_remembers():
    patch = edit("patch", set={"a": 2}, before={"a": 1})
    delete = edit("delete", before={"id": "k", "a": 2})
    assert walked(patch, delete, live=None) == [
        ({"id": "k", "a": 1}, {"id": "k", "a": 2}),
        ({"id": "k", "a": 2}, None),
    ]


def test_an_edit_that_no_trigger_saw_leaves_the_entries_what_they_say():
    patch = edit("patch", set={"a": 2}, before={"a": 1})
    assert walked(patch, live={"id": "k", "a": 99, "b": 7}) == [
        ({"id": "k", "a": 1, "b": 7}, {"id": "k", "a": 2, "b": 7})
    ]


def test_a_row_that_went_unseen_is_known_by_the_put_before():
    put = edit("put", set={"id": "k", "a": 1})
    patch = edit("patch", set={"a": 2}, before={"a": 1})
    assert walked(put, patch, live=None)[1] == ({"id": "k", "a": 1}, {"id": "k", "a": 2})


def test_a_row_that_nothing_tells_of_is_unknown():
    assert walked(edit("patch", set={"a": 2}, before={"a": 1}), live=None) == [(Unknown.ROW, Unknown.ROW)]


def test_values_come_back_bit_for_bit_and_bytes_with_them():
    values = {"real": 0.1 + 0.2, "zero": -0.0, "int": 2**63 - 1, "blob": b"\0\xff", "text": "ü\0", "none": None}
    assert str(values_of(json_text(values))) == str(values)
    assert values_of('{"b":{"$hex":"00FF"},"r":{"$real":"-inf"}}') == {"b": b"\0\xff", "r": float("-inf")}
    assert json_text({"r": float("inf")}) == '{"r":{"$real":"inf"}}'


def test_text_that_is_not_utf_8_is_bytes_and_can_be_written_again():
    body = b'{"text":"caf\xe9"}'
    assert values_of(body) == {"text": b"caf\xe9"}
    assert values_of(readable_json(body)) == {"text": b"caf\xe9"}


@pytest.mark.parametrize("said", ["[]", "{", '"text"'])
def test_json_that_is_no_body_is_the_entrys_own_fault(said):
    row = (1, "ann", "k", "patch", said.encode(), None, "1.0.0", "waiting")
    assert queued_of(row).fault


def difference(change, before, after, *, has=lambda key: True, unknown=None):
    return changes_between(change, before=before, after=after, unknown=unknown or {}, has=has)


def test_a_patch_says_what_has_changed_of_what_its_row_became():
    change = Change(kind="patch", key="k", set={"a": 2}, before={"a": 1})
    found = difference(change, {"k": {"id": "k", "t": 1, "u": 0}}, {"k": {"id": "k", "t": 2, "u": 0}})
    assert found == [Change(kind="patch", key="k", set={"t": 2}, before={"t": 1})]


def test_one_and_one_point_nought_are_two_values():
    change = Change(kind="patch", key="k", set={"a": 1.0})
    (found,) = difference(change, {"k": {"t": 1}}, {"k": {"t": 1.0}})
    assert repr(found.set) == "{'t': 1.0}"


def test_a_row_beside_that_the_cloud_may_lack_is_sent_whole_first_and_only_where_it_never_was():
    change = Change(kind="patch", key="k", set={"a": 2})
    found = difference(change, {"k": {}, "l": {"t": 1}}, {"k": {}, "l": {"t": 2}}, has=lambda key: False)
    assert found == [
        Change(kind="put", key="l", set={"t": 1}, if_version=0),
        Change(kind="patch", key="l", set={"t": 2}, before={"t": 1}),
    ]


def test_a_delete_takes_its_own_key_and_all_that_its_row_became():
    change = Change(kind="delete", key="k")
    assert [(one.kind, one.key) for one in difference(change, {"l": {"t": 1}}, {})] == [
        ("delete", "k"),
        ("delete", "l"),
    ]


def test_fields_that_the_old_shape_had_no_column_for_go_on():
    change = Change(kind="put", key="k", set={"a": 1, "newer": "x"})
    assert difference(change, {}, {"k": {"t": 1}}, unknown={"newer": "x"}) == [
        Change(kind="put", key="k", set={"t": 1, "newer": "x"})
    ]


def form(queued, *changes, takes_new_key=True):
    return form_of(queued, changes, collection="notes", takes_new_key=takes_new_key)


def test_one_change_stays_an_entry_and_several_become_one_of_changes():
    put, patch = (
        Change(kind="put", key="l", set={"t": 1}),
        Change(kind="patch", key="k", set={"t": 2}, before={"t": 1}),
    )
    assert form(edit("patch"), patch) == Form(kind="patch", row_key="k", set_json='{"t":2}', before_json='{"t":1}')
    assert form(edit("put"), put) == Form(kind="put", row_key="l", set_json='{"t":1}')
    several = form(edit("patch"), patch, put)
    assert (several.kind, several.row_key) == ("changes", "k")
    assert [member["collection"] for member in json.loads(several.set_json)] == ["notes", "notes"]
    assert form(edit("put"), put, takes_new_key=False).kind == "changes"


def test_what_changes_nothing_leaves_unless_it_holds_a_number():
    assert form(edit("patch")) is None
    assert form(edit("patch", state="claimed")) == Form(kind="void", row_key="k")


def test_entries_show_no_row_contents():
    shown = repr(edit("patch", set={"secret": "sesame"}, before={"secret": "before"}))
    assert "sesame" not in shown
    assert "before" not in shown
