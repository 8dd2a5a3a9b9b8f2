"""What becomes of a row that was changed here and at the cloud."""

import pytest

from syncengine.sync.merge import WHOLE_ROW, Conflict, Edit, Policy, merged

SERVER = {"id": "a", "title": "theirs", "steps": 5, "mood": "calm"}
MERGE, SERVER_WINS, CLIENT_WINS = Policy(name="merge"), Policy(name="server_wins"), Policy(name="client_wins")
ALL = (MERGE, SERVER_WINS, CLIENT_WINS)


def patch(entry_id: int, before: dict, **fields: object) -> Edit:
    return Edit(entry_id=entry_id, kind="patch", set=fields, before=before)


def put(entry_id: int, **fields: object) -> Edit:
    return Edit(entry_id=entry_id, kind="put", set=fields)


def delete(entry_id: int, before: dict) -> Edit:
    return Edit(entry_id=entry_id, kind="delete", before=before)


@pytest.mark.parametrize("policy", ALL)
def test_a_row_without_local_edits_is_the_clouds(policy):
    assert merged(SERVER, local={"id": "a"}, edits=[], policy=policy).row == SERVER
    assert merged(None, local={"id": "a"}, edits=[], policy=policy).row is None


@pytest.mark.parametrize("policy", ALL)
def test_fields_that_only_one_side_changed_are_both_kept_without_a_conflict(policy):
    local = {"id": "a", "title": "mine", "steps": 4, "mood": "calm"}
    server = {"id": "a", "title": "old", "steps": 5, "mood": "calm"}
    done = merged(server, local=local, edits=[patch(1, {"title": "old"}, title="mine")], policy=policy)
    assert done.row == {"id": "a", "title": "mine", "steps": 5, "mood": "calm"}
    assert done.edits == (patch(1, {"title": "old"}, title="mine"),)
    assert not done.conflicts
    assert not done.dropped


@pytest.mark.parametrize("policy", [MERGE, CLIENT_WINS])
def test_a_field_that_both_changed_stays_as_it_is_here_and_is_told(policy):
    local = {"id": "a", "title": "mine", "steps": 5, "mood": "calm"}
    done = merged(SERVER, local=local, edits=[patch(1, {"title": "old"}, title="mine")], policy=policy)
    assert done.row["title"] == "mine"
    assert done.edits == (patch(1, {"title": "theirs"}, title="mine"),), "it stands on the cloud's value now"
    assert done.conflicts == (Conflict(field="title", local="mine", server="theirs", winner="local"),)


def test_where_the_server_wins_the_field_leaves_the_entry_and_the_others_stay():
    local = {"id": "a", "title": "mine", "steps": 9, "mood": "calm"}
    edit = patch(1, {"title": "old", "steps": 5}, title="mine", steps=9)
    done = merged(SERVER, local=local, edits=[edit], policy=SERVER_WINS)
    assert done.row == {**SERVER, "steps": 9}
    assert done.edits == (patch(1, {"steps": 5}, steps=9),)
    assert done.conflicts == (Conflict(field="title", local="mine", server="theirs", winner="server"),)


def test_of_the_entries_that_leave_those_are_told_apart_whose_value_lost():
    edits = [patch(1, {"mood": "old"}, mood="calm"), patch(2, {"title": "old"}, title="mine")]
    done = merged(SERVER, local=None, edits=edits, policy=SERVER_WINS)
    assert (done.dropped, done.beaten) == ((1, 2), {2})


def test_an_entry_that_a_deletion_here_has_overtaken_did_not_lose_to_the_cloud():
    edits = [patch(1, {"title": "theirs"}, title="mine"), delete(2, {**SERVER, "title": "mine"})]
    done = merged(SERVER, local=None, edits=edits, policy=MERGE)
    assert (done.row, done.dropped, done.beaten) == (None, (1,), frozenset())


def test_where_the_row_comes_back_all_edits_of_the_deletion_have_lost():
    edits = [patch(1, {"steps": 4}, steps=6), delete(2, {"steps": 6})]
    done = merged(SERVER, local=None, edits=edits, policy=SERVER_WINS)
    assert (done.row, done.dropped, done.beaten) == (SERVER, (1, 2), {1, 2})


def test_where_the_server_wins_an_entry_that_has_nothing_left_to_say_leaves():
    done = merged(SERVER, local=None, edits=[patch(1, {"title": "old"}, title="mine")], policy=SERVER_WINS)
    assert done.row == SERVER
    assert done.dropped == (1,)
    assert not done.edits


@pytest.mark.parametrize("policy", ALL)
def test_both_sides_changing_to_the_same_value_is_no_conflict(policy):
    done = merged(SERVER, local=None, edits=[patch(1, {"title": "old"}, title="theirs")], policy=policy)
    assert not done.conflicts
    assert done.row == SERVER


@pytest.mark.parametrize("policy", ALL)
def test_our_own_push_whose_answer_was_lost_is_no_conflict_and_stays_as_it_was_sent(policy):
    sent = Edit(entry_id=1, kind="patch", set={"title": "theirs"}, before={"title": "old"}, frozen=True)
    later = patch(2, {"title": "theirs"}, title="newer")
    done = merged(SERVER, local=None, edits=[sent, later], policy=policy)
    assert not done.conflicts
    assert done.row["title"] == "newer"
    assert done.edits == (later,)


def test_a_chain_of_edits_is_done_again_step_by_step():
    edits = [patch(1, {"title": "old"}, title="one"), patch(2, {"title": "one", "steps": 5}, title="two", steps=6)]
    done = merged({**SERVER, "title": "old"}, local=None, edits=edits, policy=MERGE)
    assert done.row == {**SERVER, "title": "two", "steps": 6}
    assert done.edits == tuple(edits)


def test_a_put_over_a_row_that_another_device_made_becomes_a_patch_of_what_differs():
    done = merged(SERVER, local=None, edits=[put(1, id="a", title="mine", steps=5)], policy=MERGE)
    assert done.row == {**SERVER, "title": "mine"}
    assert done.edits == (patch(1, {"title": "theirs"}, title="mine"),)
    assert [conflict.field for conflict in done.conflicts] == ["title"]


def test_a_put_that_names_only_its_row_stays_and_the_row_holds_what_it_will_send():
    edit = Edit(entry_id=1, kind="put")
    done = merged(SERVER, local={"id": "a", "title": "mine", "steps": 5}, edits=[edit], policy=MERGE)
    assert done.row == {**SERVER, "title": "mine"}
    assert not done.edits
    assert not done.dropped


def test_a_row_deleted_here_and_unchanged_there_stays_deleted():
    done = merged(SERVER, local=None, edits=[delete(1, dict(SERVER))], policy=SERVER_WINS)
    assert done.row is None
    assert not done.conflicts
    assert [edit.kind for edit in done.edits] == ["delete"]


def test_a_row_deleted_here_and_changed_there_follows_the_policy_and_is_told():
    edits = [patch(1, {"title": "old"}, title="mine"), delete(2, {**SERVER, "title": "mine"})]
    gone = merged(SERVER, local=None, edits=edits, policy=MERGE)
    assert gone.row is None
    assert gone.dropped == (1,)
    assert gone.edits == (delete(2, SERVER),)
    back = merged(SERVER, local=None, edits=edits, policy=SERVER_WINS)
    assert back.row == SERVER
    assert back.dropped == (1, 2)
    for done, winner in ((gone, "local"), (back, "server")):
        assert done.conflicts == (Conflict(field=WHOLE_ROW, local=None, server=SERVER, winner=winner),)


@pytest.mark.parametrize("policy", [MERGE, SERVER_WINS])
def test_edits_of_a_row_that_was_deleted_there_are_set_aside(policy):
    local = {"id": "a", "title": "mine"}
    done = merged(None, local=local, edits=[patch(1, {"title": "old"}, title="mine")], policy=policy)
    assert done.row is None
    assert done.set_aside == (1,)
    assert done.conflicts == (Conflict(field=WHOLE_ROW, local=local, server=None, winner="server"),)


def test_where_the_client_wins_a_row_deleted_there_and_edited_here_is_made_again():
    local = {"id": "a", "title": "mine", "steps": 2}
    edits = [patch(1, {"title": "old"}, title="x"), patch(2, {"title": "x"}, title="mine")]
    done = merged(None, local=local, edits=edits, policy=CLIENT_WINS)
    assert done.row == local
    assert done.dropped == (1,)
    assert done.edits == (Edit(entry_id=2, kind="put", set=local),)


@pytest.mark.parametrize("policy", ALL)
def test_a_row_made_here_stays_where_there_is_a_tombstone(policy):
    local = {"id": "a", "title": "new"}
    edits = [patch(1, {"title": "old"}, title="x"), delete(2, {"id": "a"}), put(3, **local)]
    done = merged(None, local=local, edits=edits, policy=policy)
    assert done.row == local
    assert done.dropped == (1, 2)
    assert not done.conflicts


@pytest.mark.parametrize("policy", ALL)
def test_deleted_on_both_sides_leaves_nothing_to_do(policy):
    edits = [patch(1, {"title": "old"}, title="x"), delete(2, {"id": "a"})]
    done = merged(None, local=None, edits=edits, policy=policy)
    assert (done.row, done.dropped, done.conflicts) == (None, (1, 2), ())


# A function decides.


def test_a_function_is_asked_with_the_three_rows_and_its_answer_is_sent():
    asked = []

    def most_steps(base, local, server):
        asked.append((base, local, server))
        return {"steps": max(local["steps"], server["steps"]), "title": f"{local['title']}+{server['title']}"}

    local = {"id": "a", "title": "mine", "steps": 4, "mood": "calm"}
    edits = [
        patch(1, {"title": "old"}, title="draft"),
        patch(2, {"title": "draft", "steps": 1}, title="mine", steps=4),
    ]
    done = merged(SERVER, local=local, edits=edits, policy=Policy(name="function", decide=most_steps))
    assert asked == [({"id": "a", "title": "old", "steps": 1, "mood": "calm"}, local, SERVER)]
    assert done.row == {**SERVER, "title": "mine+theirs"}
    assert done.edits[-1] == patch(2, {"title": "draft"}, title="mine+theirs")
    assert {conflict.field: conflict.winner for conflict in done.conflicts} == {"title": "merged", "steps": "server"}


def test_a_function_is_not_asked_where_nothing_clashes():
    def never(base, local, server):
        raise AssertionError("asked")

    edit = patch(1, {"steps": 5}, steps=6)
    done = merged(SERVER, local={**SERVER, "steps": 6}, edits=[edit], policy=Policy(name="function", decide=never))
    assert done.row == {**SERVER, "steps": 6}


def test_a_function_may_delete_the_row_or_bring_it_back():
    deletes = Policy(name="function", decide=lambda base, local, server: None)
    done = merged(SERVER, local={"title": "m"}, edits=[patch(1, {"title": "old"}, title="m")], policy=deletes)
    assert done.row is None
    assert done.edits == (delete(1, SERVER),)
    keeps = Policy(name="function", decide=lambda base, local, server: local or {**server, "mood": "back"})
    done = merged(None, local={"title": "m"}, edits=[patch(1, {"title": "old"}, title="m")], policy=keeps)
    assert done.edits == (Edit(entry_id=1, kind="put", set={"title": "m"}),)
    done = merged(SERVER, local=None, edits=[delete(1, {**SERVER, "title": "old"})], policy=keeps)
    assert done.row == {**SERVER, "mood": "back"}
    assert done.edits == (patch(1, {"mood": "calm"}, mood="back"),)


def test_values_are_not_in_what_is_printed():
    done = merged(SERVER, local=None, edits=[patch(1, {"title": "secret-1"}, title="secret-2")], policy=MERGE)
    assert "secret" not in repr(done)
    assert "theirs" not in repr(done)
