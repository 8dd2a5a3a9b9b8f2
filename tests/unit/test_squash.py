"""Edits of one row that travel as one: what may be joined, and what must not."""

import json

import pytest

from syncengine.outbox.entry import Entry, Kind
from syncengine.outbox.squash import VANISHED, Squash, joined


def edit(entry_id, kind, key="a", set=None, before=None, shape="2.0.0", collection="journeys"):  # noqa: A002 - the wire's word
    return Entry(
        entry_id=entry_id,
        owner="ann",
        sequence=None,
        epoch=None,
        kind=Kind(kind),
        collection=collection,
        row_key=key,
        set_json=None if set is None else json.dumps(set),
        before_json=None if before is None else json.dumps(before),
        base_version=None,
        shape_version=shape,
        original_json=None,
        group_id=entry_id,
        migration=None,
        barrier_json=None,
        state="waiting",
        held_by=None,
        attempts=0,
        last_error=None,
        created_ms=1_735_689_600_000,
    )


def said(entry):
    texts = (entry.set_json, entry.before_json)
    return (entry.entry_id, entry.kind.value, *(None if text is None else json.loads(text) for text in texts))


def test_a_put_takes_the_fields_of_a_later_patch():
    both = joined(edit(1, "put", set={"x": 1, "y": 1}), edit(2, "patch", set={"y": 2}, before={"y": 1}))
    assert said(both) == (1, "put", {"x": 1, "y": 2}, None)


def test_of_two_patches_the_later_value_and_the_first_old_one_stay():
    both = joined(
        edit(1, "patch", set={"x": 2}, before={"x": 1}),
        edit(2, "patch", set={"x": 3, "y": 9}, before={"x": 2, "y": 8}),
    )
    assert said(both) == (1, "patch", {"x": 3, "y": 9}, {"x": 1, "y": 8})


def test_a_patch_before_a_deletion_leaves_the_row_as_it_was_before_both():
    both = joined(edit(1, "patch", set={"x": 2}, before={"x": 1}), edit(2, "delete", before={"x": 2, "y": 8}))
    assert said(both) == (1, "delete", None, {"x": 1, "y": 8})


def test_a_row_that_came_and_went_vanishes_only_where_the_cloud_never_had_it():
    put, delete = edit(1, "put", set={"x": 1}), edit(2, "delete", before={"x": 1})
    assert joined(put, delete, cloud_never_had_it=True) is VANISHED
    assert said(joined(put, delete)) == (1, "delete", None, None)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (edit(1, "delete"), edit(2, "put", set={"x": 1})),
        (edit(1, "delete"), edit(2, "patch", set={"x": 1})),
        (edit(1, "patch", set={"x": 1}), edit(2, "put", set={"x": 1})),
        (edit(1, "put", set={"x": 1}), edit(2, "put", set={"x": 1})),
        (edit(1, "patch", set={"x": 1}), edit(2, "patch", set={"x": 2}, shape="3.0.0")),
        (edit(1, "patch", set={"x": 1}), edit(2, "patch", set={"x": 2}, key="b")),
        (edit(1, "patch", set={"x": 1}), edit(2, "patch", set={"x": 2}, collection="notes")),
        (edit(1, "put"), edit(2, "patch", set={"x": 2})),
        (edit(1, "changes", set={}), edit(2, "patch", set={"x": 2})),
    ],
    ids=lambda entry: f"{entry.kind}-{entry.row_key}",
)
def test_what_could_mean_something_else_is_not_joined(earlier, later):
    assert joined(earlier, later) is None


@pytest.mark.parametrize("text", ['{"x":1e999}', '{"x":"a\\u0000"}', '{"x":9223372036854775808}', '{"x":"\\ud800"}'])
def test_what_cannot_be_written_again_as_it_is_is_not_joined(text):
    odd = edit(1, "patch", set={"x": 1})._replace(before_json=text)
    assert joined(odd, edit(2, "patch", set={"x": 2}, before={"x": 1})) is None


@pytest.mark.parametrize(
    "number", ["0.1", "-0.0", "5e-324", "1.7976931348623157e+308", "9223372036854775807", "100000000000000000000.0"]
)
def test_numbers_stay_bit_for_bit(number):
    odd = edit(1, "patch", set={"y": 1})._replace(set_json=f'{{"x":{number}}}', before_json="{}")
    both = joined(odd, edit(2, "patch", set={"y": 2}, before={"y": 1}))
    assert repr(json.loads(both.set_json)["x"]) == repr(json.loads(number))


def test_a_later_edit_joins_the_last_of_its_row_and_not_over_a_fence():
    squash = Squash(lambda entry: False)
    squash.add(edit(1, "patch", set={"x": 1}, before={"x": 0}))
    squash.add(edit(2, "patch", key="b", set={"x": 1}, before={"x": 0}))
    squash.add(edit(3, "patch", set={"x": 2}, before={"x": 1}))
    squash.add(edit(4, "changes", key="c", set={}))
    squash.add(edit(5, "patch", set={"x": 3}, before={"x": 2}))
    assert [entry.entry_id for entry in squash.entries] == [1, 2, 4, 5]
    assert squash.travels == {3: 1}
    assert len(squash) == 4
