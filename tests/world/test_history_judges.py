"""Judges of a whole history: each is silent about a right one, and says what is wrong with a wrong one."""

import json
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
from test_world_judges import alter, one_device

from simulator.world import checks, rests, store_checks
from simulator.world.app import NOTES_APP
from simulator.world.cloud import Effect
from simulator.world.damage import bring_back
from simulator.world.ground import Ground, PromiseBroken
from simulator.world.kin_app import KIN_APP
from simulator.world.kin_checks import bereft, check_deleted_by_somebody, check_parents_are_there
from simulator.world.last_words import check_last_words
from simulator.world.leaving import check_bytes_stay, check_refuses_writes, check_says_why, sign_out
from simulator.world.ledger import Edit
from simulator.world.people import People
from simulator.world.room import Requests, check_deletions_get_through, check_pace, limit_rows
from simulator.world.starting import check_migrated
from simulator.world.words import field_of, word
from syncengine import Engine
from syncengine.errors import RateLimited
from syncengine.migrate.definition import Counts
from syncengine.migrate.results import MigrationResult
from syncengine.remote.wire import PullItem

SET_ASIDE = (
    "INSERT INTO _sync_quarantine (origin, owner, collection, row_key, body, error_code, error_text, created_at)"
    " VALUES ('pull', 'ann', 'notes', 'n', '{body}', 'deleted_at_cloud', '', '')"
)


@contextmanager
def one_that_has_sent():
    """A device whose one note has taken effect at the cloud."""
    with one_device() as (world, device):
        world.one_round(device)
        yield world, device


def broken(promise):
    return pytest.raises(PromiseBroken, match=f"^{promise}: ")


def edit(number, *fields, kind="patch", key="n", collection="notes", group=None, device="a"):
    return Edit(
        device=device,
        user="ann",
        number=number,
        group=group or number,
        kind=kind,
        collection=collection,
        key=key,
        words=tuple(word("ann", device, number, field) for field in fields),
        version="1.0.0",
    )


def effect(*edits, kind="patch", push=2, key="n", collection="notes"):
    words = [found for each in edits for found in each.words]
    return Effect(
        life=0,
        push=push,
        user="ann",
        device="a",
        sequence=push,
        kind=kind,
        collection=collection,
        key=key,
        shape="1.0.0",
        words=frozenset(words),
        values={field_of(found): found for found in words},
    )


def wrote(world, *edits):
    world.ledger.note(list(edits))
    return edits


def took_effect(world, *effects):
    world.cloud.effects += effects
    world.cloud.words.update(*(each.words for each in effects))


def test_a_value_that_is_nowhere_is_seen():
    with one_that_has_sent() as (world, device):
        checks.check_nothing_lost(world.ledger, world.cloud, [device])
        wrote(world, edit(2, "title"))
        with broken("P2"):
            checks.check_nothing_lost(world.ledger, world.cloud, [device])
        wrote(world, edit(3, "title"))
        took_effect(world, effect(edit(3, "title")))
        checks.check_nothing_lost(world.ledger, world.cloud, [device])


@pytest.mark.parametrize("resolution", ["retried", "edited", "discarded", "restored"])
def test_what_left_the_quarantine_and_came_nowhere_is_seen_unless_a_person_gave_it_up(resolution):
    with one_that_has_sent() as (world, device):
        wrote(world, edit(2, "title"))
        (lost,) = edit(2, "title").words
        alter(device, SET_ASIDE.format(body=lost))
        checks.check_nothing_lost(world.ledger, world.cloud, [device])
        alter(device, f"UPDATE _sync_quarantine SET resolution = '{resolution}'")
        with broken("P2"):
            checks.check_nothing_lost(world.ledger, world.cloud, [device])
        with broken("P14"):
            checks.check_truthful(world.ledger, world.cloud, device)
        world.ledger.given_up.add(lost)
        checks.check_nothing_lost(world.ledger, world.cloud, [device])


def test_what_a_person_gives_up_is_written_down_as_theirs():
    with one_that_has_sent() as (world, device):
        wrote(world, edit(2, "title"))
        (lost,) = edit(2, "title").words
        alter(device, SET_ASIDE.format(body=json.dumps({"title": lost})))
        world._decide(device)
        assert not device.engine.quarantine.items()
        checks.check_nothing_lost(world.ledger, world.cloud, [device])


def test_what_is_set_aside_for_a_lost_line_is_seen():
    with one_device() as (_, device):
        checks.check_reason(device, "gone")
        with broken("P2"):
            checks.check_reason(device, "backend_unreachable")


def test_a_value_that_took_effect_twice_or_that_nobody_wrote_is_seen():
    with one_that_has_sent() as (world, _):
        checks.check_once(world.ledger, world.cloud, again=Counter())
        (changed,) = wrote(world, edit(2, "title"))
        took_effect(world, effect(changed), effect(changed, push=3))
        with broken("P3"):
            checks.check_once(world.ledger, world.cloud, again=Counter())
        world.cloud.effects[-1:] = [effect(edit(7, "title"), push=3)]
        with broken("P3"):
            checks.check_once(world.ledger, world.cloud, again=Counter())


def test_what_an_upload_says_again_is_no_second_effect_as_often_as_it_has_uploaded():
    with one_that_has_sent() as (world, _):
        first = world.cloud.effects[0]
        world.ledger.uploads["a", "ann", "notes"] += 1
        took_effect(world, replace(first, push=2))
        checks.check_once(world.ledger, world.cloud, again=Counter())
        took_effect(world, replace(first, push=3))
        with broken("P3"):
            checks.check_once(world.ledger, world.cloud, again=Counter())


def test_a_cloud_that_another_does_not_agree_with_is_seen():
    with one_that_has_sent() as (world, _):
        checks.check_answers(world.cloud)
        world.cloud.opinion.forget()
        world.cloud.opinion._cloud.users["ann"].rows.clear()
        with broken("P3"):
            checks.check_answers(world.cloud)


def test_more_requests_than_there_may_be_and_a_refusal_of_fewer_are_seen():
    ground = Ground(0)
    requests = Requests(2, ground=ground)
    check_pace(None)
    for _ in range(2):
        requests.take("ann")
    with pytest.raises(RateLimited):
        requests.take("ann")
    check_pace(requests)
    requests._judge("ann", is_taken=True)
    with broken("P3"):
        check_pace(requests)
    others = Requests(2, ground=ground)
    others._judge("ben", is_taken=False)
    with broken("P3"):
        check_pace(others)


def test_edits_of_a_row_out_of_their_order_are_seen_but_not_what_an_upload_says_ahead():
    with one_that_has_sent() as (world, _):
        second, third = wrote(world, edit(2, "title"), edit(3, "title"))
        took_effect(world, effect(second), effect(third, push=3))
        checks.check_order(world.ledger, world.cloud)
        world.cloud.effects[1:] = [effect(third), effect(second, push=3)]
        with broken("P4"):
            checks.check_order(world.ledger, world.cloud)
        world.cloud.effects[1:] = [effect(third, kind="put"), effect(second, push=3), effect(third, push=4)]
        with broken("P4"):
            checks.check_order(world.ledger, world.cloud)
        world.ledger.uploads["a", "ann", "notes"] += 1
        checks.check_order(world.ledger, world.cloud)
        del world.cloud.effects[-1]
        with broken("P4"):
            checks.check_order(world.ledger, world.cloud)


def test_a_group_that_came_in_two_requests_is_seen():
    with one_that_has_sent() as (world, _):
        marks = [edit(number, "word", kind="put", key=f"m{number}", collection="marks", group=2) for number in (2, 3)]
        first, second = wrote(world, *marks)
        came = [effect(each, kind="put", key=each.key, collection="marks") for each in (first, second)]
        took_effect(world, *came)
        checks.check_groups(world.ledger, world.cloud, marks="marks")
        world.cloud.effects[-1] = replace(came[1], push=3)
        with broken("P4"):
            checks.check_groups(world.ledger, world.cloud, marks="marks")


def test_a_cloud_that_has_something_older_than_what_was_written_last_is_seen():
    with one_that_has_sent() as (world, _):
        check_last_words(world.ledger, world.cloud, app=NOTES_APP)
        (changed,) = wrote(world, edit(2, "title"))
        took_effect(world, effect(changed))
        with broken("P2"):
            check_last_words(world.ledger, world.cloud, app=NOTES_APP)


def test_a_deletion_by_nobody_is_seen():
    with one_that_has_sent() as (world, device):
        check_deleted_by_somebody(world.ledger, world.cloud, [device])
        took_effect(world, effect(kind="delete"))
        with broken("P2"):
            check_deleted_by_somebody(world.ledger, world.cloud, [device])
        wrote(world, edit(2, kind="delete"))
        check_deleted_by_somebody(world.ledger, world.cloud, [device])


def test_a_device_that_does_not_show_its_own_edit_while_it_waits_is_seen():
    with one_device() as (world, device):
        checks.check_own_edits_stay(world.ledger, device)
        alter(device, "UPDATE notes SET title = NULL; DELETE FROM _sync_outbox WHERE kind = 'patch'")
        with broken("P10"):
            checks.check_own_edits_stay(world.ledger, device)


def test_what_waited_before_an_upgrade_and_is_gone_after_it_is_seen():
    with one_device() as (world, device):
        before = checks.words_waiting(device)
        assert before
        checks.check_conversion(world.ledger, device, before)
        alter(device, "DELETE FROM _sync_outbox")
        with broken("P9"):
            checks.check_conversion(world.ledger, device, before)


@pytest.mark.parametrize(("then", "is_well"), [("lift", True), ("patch", False)])
def test_what_waited_of_a_row_whose_deletion_waits_is_missed_only_if_it_is_written_to_once_more(then, is_well):
    with one_device() as (world, device):
        before = checks.words_waiting(device)
        entry = "INSERT INTO _sync_outbox (owner, collection, row_key, shape_version, group_id, created_ms, kind)"
        alter(device, "DELETE FROM _sync_outbox")
        for kind in ("delete", then):
            alter(device, f"{entry} VALUES ('ann', 'notes', 'n', '1.0.0', 1, 0, '{kind}')")
        with nullcontext() if is_well else broken("P9"):
            checks.check_conversion(world.ledger, device, before)


@pytest.mark.parametrize(
    ("winner", "told"), [("server", nullcontext()), ("merged", nullcontext()), ("local", broken("P14"))]
)
def test_what_lost_a_conflict_is_not_missed_when_its_record_went_with_who_signed_out(winner, told):
    with one_that_has_sent() as (world, device):
        (lost,) = wrote(world, edit(2, "title"))
        record = "INSERT INTO _sync_conflict (owner, collection, row_key, field, local_json, server_json, winner,"
        record += (
            f" policy, created_at) VALUES ('ann', 'notes', 'n', '*', '\"{lost.words[0]}\"', '0', '{winner}', '', '')"
        )
        alter(device, record)
        checks.check_truthful(world.ledger, world.cloud, device)
        sign_out(world, device, unsent="refuse")
        device.sign_in("ann")
        with told:
            world.one_round(device)
            checks.check_truthful(world.ledger, world.cloud, device)


def test_what_the_cloud_won_over_by_an_upgrade_is_not_missed_if_the_last_value_of_it_is_on_record(monkeypatch):
    with one_device() as (world, device):
        shapes = {**device.app.shapes, "notes": replace(device.app.shapes["notes"], is_merged=False)}
        monkeypatch.setattr(device, "app", replace(device.app, shapes=shapes))
        first, last = wrote(world, edit(98, "title"), edit(99, "title"))
        record = (
            "INSERT INTO _sync_conflict (owner, collection, row_key, field, local_json, server_json, winner, policy,"
        )
        record += " version, created_at) VALUES ('ann', 'notes', 'n', 'title', '\"{}\"', '0', 'server', 'x', 1, 't')"
        alter(device, record.format(first.words[0]))
        with broken("P9"):
            checks.check_conversion(world.ledger, device, set(first.words))
        alter(device, record.format(last.words[0]))
        checks.check_conversion(world.ledger, device, set(first.words))


@pytest.mark.parametrize(("doubtful_to", "told"), [(77, nullcontext()), (76, broken("P9"))])
def test_what_the_cloud_won_over_by_an_upgrade_is_not_missed_if_a_copy_may_have_sent_it(doubtful_to, told):
    with one_that_has_sent() as (world, device):
        (lost,) = wrote(world, edit(99, "title"))
        alter(device, f"UPDATE _sync_drain SET doubtful_to = {doubtful_to}")
        alter(device, "INSERT INTO _sync_receipt VALUES (77, 'ann', 'notes', 'n', 'merged_away', '')")
        with broken("P9"):
            checks.check_conversion(world.ledger, device, set(lost.words))
        record = "INSERT INTO _sync_conflict (owner, collection, row_key, field, local_json, server_json, winner,"
        record += (
            f" policy, created_at) VALUES ('ann', 'notes', 'n', '*', '\"{lost.words[0]}\"', '0', 'server', '', '')"
        )
        alter(device, record)
        with told:
            checks.check_conversion(world.ledger, device, set(lost.words))


def test_a_value_that_is_with_another_user_is_seen():
    with one_that_has_sent() as (world, device):
        checks.check_users_apart(world.cloud, [device])
        alter(device, "UPDATE notes SET user_id = 'ben'")
        with broken("P11"):
            checks.check_users_apart(world.cloud, [device])


def test_a_device_that_says_synced_of_what_the_cloud_never_had_is_seen():
    with one_that_has_sent() as (world, device):
        checks.check_truthful(world.ledger, world.cloud, device)
        wrote(world, edit(2, "title"))
        with broken("P14"):
            checks.check_truthful(world.ledger, world.cloud, device)


def test_a_device_that_does_not_say_that_edits_of_another_user_wait_is_seen(monkeypatch):
    with one_device() as (world, device):
        device.sign_in("ben")
        checks.check_truthful(world.ledger, world.cloud, device)
        untrue = replace(device.engine.status(), others_unsent=0)
        monkeypatch.setattr(type(device.engine), "status", lambda _: untrue)
        with broken("P14"):
            checks.check_truthful(world.ledger, world.cloud, device)


def test_a_device_that_shows_something_else_than_the_cloud_has_is_seen():
    with one_that_has_sent() as (world, device):
        checks.check_agreement(world.cloud, device)
        alter(device, "UPDATE notes SET title = 'else'")
        with broken("P10"):
            checks.check_agreement(world.cloud, device)


def at_cloud(collection, key, body):
    return PullItem(collection=collection, key=key, version=1, shape_version="1.0.0", body=body)


def test_only_what_waits_for_a_parent_that_was_deleted_and_may_not_go_without_it_is_bereft():
    places = [("pins", "p"), ("items", "i"), ("pins", "q"), ("pins", "r")]
    deleted = [at_cloud("lists", "gone", None)]
    cloud = [*deleted, at_cloud("lists", "there", {"id": "there"})]
    cloud += [at_cloud(*place, {"id": place[1], "up": "gone"}) for place in places[:2]]
    cloud += [at_cloud("pins", "q", {"id": "q", "up": "there"}), at_cloud("pins", "r", {"id": "r", "up": "unheard"})]
    assert bereft(KIN_APP, cloud, places) == {("pins", "p")}
    assert not bereft(KIN_APP, cloud, [])


def test_a_row_that_refers_to_none_is_seen():
    with one_device() as (_, device):
        check_parents_are_there(device)
        device.store.connection.execute("PRAGMA foreign_keys = OFF").fetchall()
        alter(device, "CREATE TABLE kin (up TEXT REFERENCES marks (id)); INSERT INTO kin VALUES ('nobody')")
        with pytest.raises(Exception, match="mismatch"):
            check_parents_are_there(device)
        alter(device, "CREATE UNIQUE INDEX one_mark ON marks (id)")
        with broken("P10"):
            check_parents_are_there(device)


def test_a_wait_that_is_too_long_or_that_is_not_kept_is_seen():
    with one_device() as (world, device):
        most_ms = device.settings.retry_after_ms_max
        rests.check_wait(device, most_ms)
        with broken("P10"):
            rests.check_wait(device, most_ms + 2_000)
        device.rests["ann"] = 5_000, device.clock.skew_ms
        rests.check_rests(device, now_ms=5_000)
        with broken("P10"):
            rests.check_rests(device, now_ms=4_999)
        device.clock.skew_ms += 1
        rests.check_rests(device, now_ms=4_999)
        device.clock.skew_ms -= 1
        device.is_damaged = device.has_told_damage = True
        bring_back(world, device, None)
        rests.check_rests(device, now_ms=4_999)
        assert world.ground.time.at_ms == 0


def test_a_world_that_does_not_come_to_rest_is_seen():
    rests.check_is_at_rest([], when="now", rounds=12)
    with broken("P10"):
        rests.check_is_at_rest(["a of ann: entries wait"], when="now", rounds=12)


def test_deletions_that_do_not_get_through_are_seen():
    with one_that_has_sent() as (world, device):
        limit_rows(world.cloud, 1)
        device.write([People(device, world.ground.chance.stream("another")).new_row("notes", "m")])
        world.one_round(device)
        with broken("P10"):
            check_deletions_get_through(world, device)
        limit_rows(world.cloud, 2)
        check_deletions_get_through(world, device)


def test_a_migration_that_fails_on_a_sound_device_is_seen():
    with one_device() as (_, device):
        done = MigrationResult(success=True, migration_id="m", scope="store", state="completed", counts=Counts())
        check_migrated(device, done)
        with broken("P6"):
            check_migrated(device, replace(done, success=False))


def test_a_run_that_read_fewer_rows_than_there_were_is_seen():
    with one_device() as (world, device):
        before = store_checks.rows_there(device)
        world.upgrade(device, 0.99)
        store_checks.check_runs_read_all(device, before)
        store_checks.check_runs_add_up(device)
        more = replace(before, counts=before.counts + Counter(notes=1))
        with broken("P8"):
            store_checks.check_runs_read_all(device, more)
        device.store.connection.execute("PRAGMA ignore_check_constraints = ON").fetchall()
        alter(device, "UPDATE _sync_run SET rows_written = rows_written + 1")
        with broken("P8"):
            store_checks.check_runs_add_up(device)


def test_a_value_in_the_diagnostics_is_seen():
    with one_device() as (_, device):
        store_checks.check_diagnostics_are_silent(device)
        alter(device, f"UPDATE _sync_outbox SET last_error = '{word('ann', 'a', 1, 'title')}'")
        alter(device, f"UPDATE _sync_run SET error_text = '{word('ann', 'a', 1, 'title')}'")
        with broken("P12"):
            store_checks.check_diagnostics_are_silent(device)


def test_an_app_that_may_write_to_a_store_and_bytes_that_are_others_are_seen():
    with one_device() as (_, device):
        device.switch_off()
        files = {device.path.name: device.path.read_bytes()}
        check_bytes_stay(device, files)
        with broken("P13"):
            check_bytes_stay(device, {device.path.name: b""})
        with Engine.open(device.path, registry=device.registry, user="ann", clock=device.clock) as engine:
            engine.migrate()
            with broken("P13"):
                check_says_why(engine, device)
            with broken("P13"):
                check_refuses_writes(engine, device)
