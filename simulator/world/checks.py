"""The checks, one for each promise. The judges are the ledger of what people wrote and the witness at the cloud."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from simulator.world.app import Reading
from simulator.world.cloud import Effect, WorldCloud
from simulator.world.device import Device
from simulator.world.ground import PromiseBroken
from simulator.world.ledger import Edit, Ledger
from simulator.world.reading import read_document
from simulator.world.words import field_of, user_of, words_in


def check_nothing_lost(ledger: Ledger, cloud: WorldCloud, devices: Sequence[Device]) -> None:
    """P2: each acknowledged value took effect, waits, is set aside, lost to another side on record, or was
    overwritten on the same device."""
    accounted = cloud.words | words_kept(devices) | ledger.given_up
    for edit in ledger.sure():
        for lost in sorted(set(edit.words) - accounted):
            if not _is_overwritten(ledger, edit, lost) and not _has_no_room(lost, edit, devices):
                raise PromiseBroken(f"P2: {lost} of {edit.key}, acknowledged on {edit.device}, is nowhere")


def check_reason(device: Device, code: str) -> None:
    """P2: what is set aside was refused, or met what another device did; never for a line or a cloud that fails."""
    if code not in REASONS:
        raise PromiseBroken(f"P2: on {device.name} something is set aside, and nobody decided that: {code}")


REASONS = ("deleted_at_cloud", "gone", "group_rejected", "parent_deleted", "restored_over")
"""All codes of what people of this world may find in quarantine."""


def words_kept(devices: Iterable[Device]) -> set[str]:
    """What waits, what was set aside, and what lost a conflict that was recorded."""
    kept: set[str] = set()
    for device in devices:
        for texts in (_QUEUED, _ASIDE, _CONFLICTS):
            for row in device.store.query(texts):
                for text in row:
                    kept |= words_in(text)
    return kept


_QUEUED = "SELECT set_json, original_json FROM _sync_outbox"
# What was taken out of it again must be somewhere else, and what a person gave up is in the ledger.
_ASIDE = "SELECT body, body_original FROM _sync_quarantine WHERE resolution IS NULL"
_CONFLICTS = "SELECT local_json FROM _sync_conflict"


def words_conceded(device: Device, user: str) -> set[str]:
    """What lost a conflict that is on record: the cloud need not have it."""
    return {found for (text,) in device.store.query(_CONCEDED, (user,)) for found in words_in(text)}


_CONCEDED = "SELECT local_json FROM _sync_conflict WHERE owner = ? AND winner <> 'local'"


def _is_overwritten(ledger: Ledger, edit: Edit, lost: str, *, on: str = "") -> bool:
    """The device itself, or `on`, wrote something else over it, or deleted its row."""
    for later in ledger.later(edit, on=on):
        if later.kind in ("delete", "put") or field_of(lost) in map(field_of, later.words):
            return True
    return False


def _has_no_room(lost: str, edit: Edit, devices: Iterable[Device]) -> bool:
    own = [device for device in devices if device.name == edit.device]
    return any(device.app.has_no_room(field_of(lost), written=edit.version, now=device.version) for device in own)


def check_once(ledger: Ledger, cloud: WorldCloud, *, again: Counter[tuple[str, str]]) -> None:
    """P3: no value took effect twice in one life of the cloud's database, but where an app's upload says it again: as
    a part of a whole row, and from each device as often as that has uploaded.

    `again`: how often, by collection and key, a row may be put once more after it was deleted.
    """
    times: Counter[str] = Counter()
    puts: Counter[tuple[str, str]] = Counter()
    for effect in cloud.effects:
        if strange := effect.words - ledger.by_word.keys():
            raise PromiseBroken(f"P3: {min(strange)} took effect, and nobody wrote it")
        if effect.life:
            continue
        times.update(effect.words)
        if effect.kind in WHOLE_ROWS:
            puts.update((found, effect.device) for found in effect.words)
    for found, count in sorted(times.items()):
        edit = ledger.by_word[found]
        if found in ledger.copied or count == 1:
            continue
        uploads, more = ledger.uploads_of(edit), again[edit.collection, edit.key]
        by_device = {device: said for (each, device), said in puts.items() if each == found}
        said_again = max(by_device.values(), default=0) > 1 + max(uploads, default=0) + more
        if count > 1 + sum(uploads) + more or count - sum(by_device.values()) > 1 or said_again:
            raise PromiseBroken(f"P3: {found} of {edit.key} took effect {count} times")


WHOLE_ROWS = ("put", "changes")
"""The kinds by which an upload says rows again."""


def check_answers(cloud: WorldCloud) -> None:
    """P3: whatever the cloud answered and keeps is what another cloud, which shares no code with it, says."""
    for user in cloud.users:
        cloud.opinion.documents(user, cloud.documents(user))
    if cloud.opinion.disagrees:
        raise PromiseBroken(f"P3: {cloud.opinion.disagrees}")


def check_order(ledger: Ledger, cloud: WorldCloud) -> None:
    """P4: the edits that one device made to one row took effect in the order in which they were made.

    So it is with what is said again, too, such as by an upload; but not over a deletion: behind it a row may be put
    again that others refer to. What an upload says ahead of the entries that wait behind it counts when these come.
    """
    ahead = _said_ahead(ledger, cloud)
    last: dict[tuple[str, ...], int] = {}
    since: dict[tuple[str, ...], int] = {}
    """The same since the row was deleted."""
    seen: set[str] = set()
    for number, effect in enumerate(cloud.effects):
        if effect.life:
            break  # a later life begins with what nobody can tell
        if effect.kind == "delete":
            place = (effect.user, effect.collection, effect.key)
            since = {line: number for line, number in since.items() if line[:3] != place}
        for found in effect.words - ledger.copied - ledger.sent_again - ledger.twofold - ahead[number]:
            edit = ledger.by_word[found]
            line = (edit.user, edit.collection, edit.key, edit.device, field_of(found))
            newest = (since if found in seen else last).get(line, 0)
            seen.add(found)
            if newest > edit.number:
                raise PromiseBroken(f"P4: {found} of {edit.key} took effect after edit {newest} of that row")
            last[line], since[line] = max(edit.number, last.get(line, 0)), edit.number


def _said_ahead(ledger: Ledger, cloud: WorldCloud) -> dict[int, set[str]]:
    """By the place of an effect: values that the upload of a row has taken in, and whose own entries come later."""
    to_come: set[tuple[str, str]] = set()
    ahead: dict[int, set[str]] = defaultdict(set)
    for place, effect in reversed(list(enumerate(cloud.effects))):
        if effect.kind != "put":
            to_come |= {(effect.device, found) for found in effect.words}
        elif ledger.has_uploaded(effect.user, effect.collection):
            ahead[place] = {found for found in effect.words if (effect.device, found) in to_come}
    return ahead


def check_groups(ledger: Ledger, cloud: WorldCloud, *, marks: str) -> None:
    """P4: the marks of one local transaction, which nobody changes, arrived in one request."""
    came: dict[str, set[int]] = defaultdict(set)
    for effect in cloud.effects:
        if effect.collection == marks and effect.life == 0:
            for found in effect.words:
                came[found].add(effect.push)
    groups: dict[tuple[str, int], list[Edit]] = defaultdict(list)
    for edit in ledger.edits:
        in_parts = edit.is_raw and not edit.is_sure
        if edit.collection == marks and not in_parts and not ledger.copied.intersection(edit.words):
            groups[edit.device, edit.group].append(edit)
    for (device, number), members in groups.items():
        pushes = {tuple(sorted(came[found])) for edit in members for found in edit.words}
        if len(pushes) > 1:
            raise PromiseBroken(f"P4: group {number} of {device} was torn apart: {sorted(pushes)}")


def check_own_edits_stay(ledger: Ledger, device: Device) -> None:
    """P10: what this device wrote last and the cloud has not taken yet is what it shows."""
    waiting = {found for (text,) in device.store.query(_WAITING) for found in words_in(text)}
    if not waiting:
        return
    merged = [name for name in device.app.written if device.app.shapes[name].is_merged]
    rows = [row for name in merged for row in _rows(device, name)]
    shown = {found for row in rows for value in row.values() for found in words_in(str(value))}
    for found in sorted(waiting - shown - ledger.sent_again):
        edit = ledger.by_word.get(found)
        if (
            edit is not None
            and edit.collection in merged
            and not _is_overwritten(ledger, edit, found, on=device.name)
        ):
            raise PromiseBroken(
                f"P10: {device.name} does not show its own {found} of {edit.key}, which waits to be sent"
            )


_WAITING = "SELECT set_json FROM _sync_outbox WHERE state = 'waiting' AND kind IN ('put', 'patch')"


def words_waiting(device: Device) -> set[str]:
    """All that this store has to send or keeps aside. A put that only names its row sends what is there."""
    texts = [text for query in (_WRITES_QUEUED, _ASIDE) for row in device.store.query(query) for text in row]
    as_they_are = device.store.query(_SENT_AS_IT_IS)
    texts += [str(row) for name in {name for (name,) in as_they_are} for row in _rows_sent(device, name)]
    return {found for text in texts for found in words_in(text)}


# What an entry takes away or writes over stands in its original, too, and does not wait.
_WRITES_QUEUED = "SELECT set_json, json_extract(original_json, '$.set') FROM _sync_outbox"
_SENT_AS_IT_IS = "SELECT collection FROM _sync_outbox WHERE kind = 'put' AND set_json IS NULL"


def _rows_sent(device: Device, name: str) -> list[Any]:
    return device.store.query(
        f"SELECT {name}.* FROM {name} JOIN _sync_outbox ON row_key = id AND owner = user_id"
        " WHERE kind = 'put' AND collection = ? AND set_json IS NULL",
        (name,),
    )


# A lift behind a deletion writes nothing: it was queued as the row came in, and the cloud leaves it out.
_DELETED = (
    "SELECT collection, row_key FROM _sync_outbox AS deletion WHERE kind = 'delete' AND NOT EXISTS ("
    "SELECT 1 FROM _sync_outbox AS later WHERE (later.owner, later.collection, later.row_key)"
    " = (deletion.owner, deletion.collection, deletion.row_key) AND later.entry_id > deletion.entry_id"
    " AND later.kind <> 'lift')"
)


def check_conversion(ledger: Ledger, device: Device, before: set[str]) -> None:
    """P9: what waited before an upgrade waits after it, is in quarantine, or has no room in the new shape."""
    deleted = set(device.store.query(_DELETED))
    for lost in sorted(before - words_waiting(device)):
        edit = ledger.by_word[lost]
        if (edit.collection, edit.key) in deleted:
            continue  # the person has deleted the row after that, and the deletion waits
        gives_way = not device.app.shapes[edit.collection].is_merged or _was_in_doubt(edit, device)
        if gives_way and _is_on_record(ledger, edit, lost, device):
            continue  # a row that waited for this upgrade came in, and the cloud's values win there
        if not device.app.has_no_room(field_of(lost), written=edit.version, now=device.version):
            raise PromiseBroken(f"P9: {lost} of {edit.key} waited on {device.name} before its upgrade, and is gone")


def _was_in_doubt(edit: Edit, device: Device) -> bool:
    """Another copy of this store may have sent an entry of this row, which was left out as it came in."""
    return bool(device.store.query(_DOUBTED, (edit.user, edit.collection, edit.key)))


_DOUBTED = (
    "SELECT 1 FROM _sync_receipt JOIN _sync_drain USING (owner) WHERE ended = 'merged_away'"
    " AND entry_id <= doubtful_to AND (owner, collection, row_key) = (?, ?, ?)"
)


def _is_on_record(ledger: Ledger, edit: Edit, lost: str, device: Device) -> bool:
    """The value, or the last one that this device has written over it."""
    written = [found for other in ledger.later(edit) for found in other.words if field_of(found) == field_of(lost)]
    return [lost, *written][-1] in words_kept([device])


def check_users_apart(cloud: WorldCloud, devices: Iterable[Device]) -> None:
    """P11: every value is with the user who wrote it: at the cloud, and in the rows and queues of devices."""
    for user in cloud.users:
        for item in cloud.documents(user):
            _refuse_strangers(user, item.model_dump_json(), "at the cloud")
    for device in devices:
        for collection in device.app.shapes:
            for row in _rows(device, collection):
                _refuse_strangers(str(row["user_id"]), str(row), f"in {collection} of {device.name}")
        for owner, text in device.store.query("SELECT owner, set_json FROM _sync_outbox"):
            _refuse_strangers(owner, text, f"in the queue of {device.name}")


def _refuse_strangers(user: str, text: str | None, where: str) -> None:
    for found in sorted(words_in(text)):
        if user_of(found) != user:
            raise PromiseBroken(f"P11: {found} is with {user} {where}")


def check_truthful(ledger: Ledger, cloud: WorldCloud, device: Device) -> None:
    """P14: a device that says "synced" has nothing of its user that the cloud lacks, and it says when others' edits
    wait on it."""
    assert device.engine is not None
    user = None if device.is_signed_out else device.user
    # Asked only where the answer could be wrong: a status takes longer than a look at the queue.
    untrue = _what_cloud_lacks(ledger, cloud, device, user)
    others = device.store.query(_UNSENT_OF_OTHERS, (user,))[0][0]
    if not untrue and not others:
        return
    status = device.engine.status()
    if untrue and status.synced:
        raise PromiseBroken(f"P14: {device.name} says that it is synced, and {untrue}")
    if status.others_unsent != others:
        raise PromiseBroken(f"P14: {device.name} says {status.others_unsent} of others wait, and {others} do")


_UNSENT_OF_OTHERS = "SELECT count(*) FROM _sync_outbox WHERE owner <> ? AND state IN ('waiting', 'claimed', 'held')"


def _what_cloud_lacks(ledger: Ledger, cloud: WorldCloud, device: Device, user: str | None) -> str:
    """Of this user; of all where nobody is signed in."""
    left = device.store.query("SELECT count(*) FROM _sync_outbox WHERE owner = coalesce(?, owner)", (user,))[0][0]
    if left:
        return f"{left} entries wait"
    accounted = cloud.words | words_kept([device]) | ledger.given_up
    for edit in ledger.sure():
        if edit.device != device.name or user not in (None, edit.user) or accounted.issuperset(edit.words):
            continue
        for lost in sorted(set(edit.words) - accounted):
            if not _is_overwritten(ledger, edit, lost) and not _has_no_room(lost, edit, [device]):
                return f"the cloud never had {lost}"
    return ""


def what_is_left(device: Device) -> str:
    """Why this device's user is not done; empty when all is sent and read."""
    left = device.store.query(
        "SELECT kind, collection, row_key, state, last_error FROM _sync_outbox WHERE owner = ? LIMIT 3",
        (device.user,),
    )
    if left:
        return f"entries wait: {left}"
    at = device.store.query("SELECT at_head, resync_reason FROM _sync_cursor WHERE owner = ?", (device.user,))
    if at != [(1, None)]:
        return f"reading is not at its end: {at}"
    return ""


def check_agreement(cloud: WorldCloud, device: Device, *, bereft: Iterable[tuple[str, str]] = ()) -> None:
    """P10: what a device shows to its user is what the cloud has, field by field, in this app's shape.

    `bereft`: rows that wait here for a parent that nobody has any more.
    """
    expected: dict[tuple[str, str], Reading] = {}
    unread = set(bereft)
    for item in cloud.documents(device.user):
        place = (item.collection, item.key)
        if item.body is None:
            continue
        if item.patches:
            raise PromiseBroken(f"P10: nobody has lifted what lies beside {item.key}")
        if item.collection != device.app.marks and device.app.is_newer(item.shape_version, device.version):
            unread.add(place)
        else:
            expected[place] = read_document(device.app, item, version=device.version)
    # Whoever refers to what this app cannot read yet waits for it.
    unread |= {(name, key) for (name, key), row in expected.items() if _parent_of(device, name, row) in unread}
    found = dict(_own_rows(device))
    aside = {(c, k) for c, k in device.store.query(_SET_ASIDE, (device.user,))}
    for place in sorted((expected.keys() | found.keys()) - unread - aside):
        if expected.get(place) != found.get(place):
            here, there = found.get(place), expected.get(place)
            raise PromiseBroken(f"P10: {device.name} and the cloud differ at {place}: {here} here, {there} there")


def _parent_of(device: Device, collection: str, row: Reading) -> tuple[str, str] | None:
    parent = device.app.shapes[collection].parent
    return (parent, str(row["up"])) if parent and row["up"] is not None else None


_SET_ASIDE = (
    "SELECT collection, row_key FROM _sync_quarantine WHERE owner = ? AND resolution IS NULL AND origin = 'outbox'"
)


def _own_rows(device: Device) -> Iterator[tuple[tuple[str, str], Reading]]:
    for collection in device.app.shapes:
        for row in _rows(device, collection):
            if row.pop("user_id") == device.user:
                yield (collection, str(row["id"])), row


def _rows(device: Device, collection: str) -> list[dict[str, Any]]:
    names = [name for (name,) in device.store.query("SELECT name FROM pragma_table_info(?)", (collection,))]
    found = device.store.query(f"SELECT * FROM {collection} ORDER BY 1, 2")
    return [dict(zip(names, row, strict=True)) for row in found]


def effects_of(cloud: WorldCloud, found: str) -> list[Effect]:
    """Where a value took effect; for people who look into a failure."""
    return [effect for effect in cloud.effects if found in effect.words]
