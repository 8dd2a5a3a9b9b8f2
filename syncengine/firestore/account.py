"""One user's state in Firestore: read, made when it is not there, compared with a device's cursor."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from syncengine.clock import Clock
from syncengine.errors import AuthRequired
from syncengine.firestore.answers import Contended, violation
from syncengine.firestore.names import Names
from syncengine.firestore.receipts import receipts_of
from syncengine.firestore.rest import Found, Rest
from syncengine.firestore.rows import meta_of
from syncengine.firestore.state import Lane, State, condition, state_of
from syncengine.firestore.values import META, decoded
from syncengine.remote.http_answer import UNAUTHORIZED
from syncengine.server.cursor import Position, Standing, read_cursor, standing, written_cursor
from syncengine.server.receipts import Receipt
from syncengine.vocabulary import UserId

FORGET_ROWS_MAX = 200
"""Tombstones of one commit."""

KEY_BITS = 256
MARK_BITS = 63


class Account:
    """The documents of one user, as far as they are about where the rows stand."""

    def __init__(self, rest: Rest, user: UserId, *, clock: Clock, chance: random.Random) -> None:
        self.names = Names(rest.root, user)
        self.user = user
        self._rest = rest
        self._clock = clock
        self._chance = chance

    def state(self, *, also: tuple[str, ...] = ()) -> tuple[State, str, dict[str, Found]]:
        """The state, when it was read, and documents that were wanted beside it. Raises Contended."""
        read = self._rest.read([self.names.state, *also])
        found = read.found.pop(self.names.state, None)
        if found is not None:
            return state_of(found), read.read_time, read.found
        self._begin(read.read_time)
        raise Contended("there was no state yet")

    def moment(self) -> tuple[State, str, str]:
        """The state, when, and a transaction in which everything else is read as it was then. Raises Contended."""
        read = self._rest.read([self.names.state], begin=True)
        if self.names.state not in read.found:
            self._begin(read.read_time)
            raise Contended("there was no state yet")
        if read.transaction is None:
            raise violation("no transaction was begun")
        return state_of(read.found[self.names.state]), read.read_time, read.transaction

    def write(self, state: State) -> None:
        """In the place of the one that was read. Raises Contended."""
        self._rest.commit([state.write(self.names.state)])

    def commit(self, writes: Sequence[dict[str, Any]], *, decided_on: State) -> None:
        """All or none. Raises Contended where the state is not the one any more that they were decided on.

        The security rules look at the counter, too, and may refuse what came second before its conditions do.
        """
        try:
            self._rest.commit(writes)
        except AuthRequired as error:
            if error.status == UNAUTHORIZED:
                raise
            state, _, _ = self.state()
            if state.update_time == decided_on.update_time:
                raise
            raise Contended("the rules compared with another state") from None

    def begin_another_life(self, state: State, *, read_time: str, above: int = 0) -> State:
        """A later one than this state's and than `above`. Raises Contended."""
        after = state.in_another_life(now_ms=_as_ms(read_time), above=above)
        self.write(after)
        return after

    def fresh_mark(self) -> int:
        return self._chance.getrandbits(MARK_BITS)

    def stood(self, cursor: str, *, state: State, transaction: str | None = None) -> tuple[Position | None, Standing]:
        """Where a cursor is, and what it is worth now."""
        position = read_cursor(cursor, user=self.user, key=bytes.fromhex(state.cursor_key))
        is_of_here = position is not None and position.epoch == state.epoch and position.told_at <= state.head
        mark = 0
        if position is not None and is_of_here:
            mark = self.mark_at(position.told_at, state=state, transaction=transaction)
        return position, standing(position, epoch=state.epoch, head=state.head, floor=state.floor, mark=mark)

    def cursor(self, position: Position, *, state: State) -> str:
        return written_cursor(position, user=self.user, key=bytes.fromhex(state.cursor_key))

    def mark_at(self, version: int, *, state: State, transaction: str | None = None) -> int:
        """The mark of the commit that gave this version; 0 for none."""
        if version == state.head:
            return state.mark
        if version == 0:
            return 0
        path = {"fieldPath": "last_version"}
        query = {
            "from": [{"collectionId": "~receipts"}],
            "where": {
                "fieldFilter": {
                    "field": path,
                    "op": "GREATER_THAN_OR_EQUAL",
                    "value": {"integerValue": str(version)},
                }
            },
            "orderBy": [{"field": path}],
            "limit": 1,
            "select": {"fields": [{"fieldPath": "mark"}]},
        }
        found = self._rest.query(self.names.user, query, transaction=transaction)
        return int(decoded(found[0].fields["mark"])) if found else 0

    def receipts(self, lane: Lane, *, first: int, last: int) -> dict[int, Receipt]:
        """What was answered to the sequences from `first` to `last`, by sequence."""
        found: dict[int, Receipt] = {}
        while first <= last:
            query = {
                "from": [{"collectionId": "~receipts"}],
                "orderBy": [{"field": {"fieldPath": "__name__"}}],
                "startAt": _at(self.names.receipt(lane.writer, first)),
                "endAt": {**_at(self.names.receipt(lane.writer, 10**19 - 1)), "before": False},
                "limit": 1,
            }
            documents = self._rest.query(self.names.user, query)
            if not documents:
                break
            told = receipts_of(documents[0])
            numbers = [(each, each.sequence + after) for each in told for after in range(each.entries)]
            found |= {number: each.at(number) for each, number in numbers}
            first = numbers[-1][1] + 1
        return found

    def forget_deleted(self, *, before: str) -> int:
        """Forget rows that were deleted before a moment (RFC 3339), and raise the floor over them; how many."""
        forgotten = 0
        state, _, _ = self._known_state()
        for collection in state.collections:
            while found := self._old_tombstones(collection, before=before):
                state, _, _ = self._known_state()
                floor = max(meta_of(each)["group"] for each in found)
                deletes = [{"delete": each.name, "currentDocument": condition(each.update_time)} for each in found]
                raised = replace(state, floor=max(state.floor, floor))
                self.commit([raised.write(self.names.state), *deletes], decided_on=state)
                forgotten += len(found)
        return forgotten

    def _old_tombstones(self, collection: str, *, before: str) -> list[Found]:
        path = {"fieldPath": f"{META}.deleted_at"}
        query = {
            "from": [{"collectionId": collection}],
            "where": {"fieldFilter": {"field": path, "op": "LESS_THAN", "value": {"timestampValue": before}}},
            "orderBy": [{"field": path}],
            "limit": FORGET_ROWS_MAX,
        }
        return self._rest.query(self.names.user, query)

    def _known_state(self) -> tuple[State, str, dict[str, Found]]:
        try:
            return self.state()
        except Contended:
            return self.state()

    def _begin(self, read_time: str) -> None:
        """The first document of a user, in a life by Firestore's clock, which is one for all devices.

        Raises Contended when another device was quicker.
        """
        key = f"{self._chance.getrandbits(KEY_BITS):064x}"
        self.write(State(epoch=_as_ms(read_time), epoch_head=0, cursor_key=key))


def _as_ms(time: str) -> int:
    """A time as Firestore tells it (RFC 3339). Raises ProtocolViolation for what is none."""
    try:
        return int(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError as error:
        raise violation("its time cannot be read") from error


def _at(name: str) -> dict[str, object]:
    return {"values": [{"referenceValue": name}], "before": True}
