"""One example of each message, word for word: the models, the golden files and docs/protocol.md agree."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from syncengine.remote.json_text import read_json, write_json
from syncengine.remote.wire import (
    Action,
    BesidePatch,
    CloudRow,
    EntryKind,
    EntryResult,
    ErrorAnswer,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    Limits,
    PullAnswer,
    PullItem,
    PushAnswer,
    PushEntry,
    PushRequest,
    Refusal,
    RowChange,
    RowsAnswer,
    WireModel,
    lean,
)
from tests.unit.json_schema import schema_faults

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "wire"
TIME = "2025-07-21T15:30:00.000Z"
CURSOR = "AAABmC1kjtAAAAAAAAAA5wAAAAAAAADnD2XwbHqjUoxDXyUs6vBgmw"
TOKEN = "7c1e0d9b55aa4f3e8a2b6c4d1f0e9a8b"
DEVICE = "0b7e6f2ad1c84e5f9a3b6c7d8e9f0a1b"

EXAMPLES: dict[str, WireModel] = {
    "hello_request": HelloRequest(
        request_id="5f0c9b1e",
        user="ann",
        app="heros-path",
        device=DEVICE,
        epoch=2,
        schema_version="2.0.0",
        confirmed_seq=40,
        cursor=CURSOR,
        ended_epoch=1,
    ),
    "hello_answer": HelloAnswer(
        request_id="5f0c9b1e",
        server_time=TIME,
        server_epoch=1753111800000,
        device_seq=41,
        head=231,
        floor=12,
        cloud_version="1.1.0",
        action=Action.OK,
        limits=Limits(entries_max=5000, bytes_max=16777216),
    ),
    "push_request": PushRequest(
        request_id="5f0c9b1f",
        user="ann",
        device=DEVICE,
        epoch=2,
        schema_version="2.0.0",
        entries=(
            PushEntry(
                sequence=41,
                group=17,
                kind=EntryKind.PUT,
                collection="journeys",
                key="j-17",
                set={"title": "Along the canal", "duration_s": 1860.5, "completed": 1},
                shape_version="2.0.0",
                token=TOKEN,
            ),
            PushEntry(
                sequence=42,
                group=18,
                kind=EntryKind.PATCH,
                collection="saved_places",
                key="p-3",
                set={"note": None},
                base_version=212,
                shape_version="1.1.0",
                token=TOKEN,
            ),
            PushEntry(
                sequence=43,
                group=18,
                kind=EntryKind.DELETE,
                collection="saved_places",
                key="p-4",
                base_version=198,
                shape_version="1.1.0",
                token=TOKEN,
                on_conflict="refuse",
            ),
            PushEntry(
                sequence=44,
                group=19,
                kind=EntryKind.CHANGES,
                collection="journeys",
                key="j-9",
                base_version=120,
                shape_version="2.0.0",
                changes=(
                    RowChange(kind=EntryKind.DELETE, collection="journeys", key="j-9"),
                    RowChange(kind=EntryKind.PUT, collection="journeys", key="j-9-1", set={"duration_s": 60.0}),
                    RowChange(
                        kind=EntryKind.PUT, collection="journeys", key="j-9-2", set={"duration_s": 90.0}, if_version=0
                    ),
                ),
                token=TOKEN,
            ),
            PushEntry(
                sequence=45,
                group=20,
                kind=EntryKind.LIFT,
                collection="journeys",
                key="j-5",
                set={"duration_s": 120.0},
                base_version=229,
                shape_version="2.0.0",
                token=TOKEN,
                lifts=(227, 229),
            ),
            PushEntry(
                sequence=46,
                group=21,
                kind=EntryKind.MIGRATION,
                shape_version="2.0.0",
                migration="journeys_to_seconds",
                changes=(
                    RowChange(
                        kind=EntryKind.PUT,
                        collection="journeys",
                        key="j-2",
                        set={"duration_s": 120.0},
                        if_version=7,
                    ),
                ),
                cloud_version="2.0.0",
                token=TOKEN,
            ),
            PushEntry(sequence=47, group=22, kind=EntryKind.VOID, shape_version="2.0.0", token=TOKEN),
        ),
    ),
    "push_answer": PushAnswer(
        request_id="5f0c9b1f",
        server_time=TIME,
        device_seq=47,
        results=(
            EntryResult(sequence=41, status="duplicate", outcome="applied", version=230),
            EntryResult(
                sequence=42,
                status="rejected",
                code="gone",
                message="The row to patch does not exist or was deleted.",
            ),
            EntryResult(
                sequence=43,
                status="rejected",
                code="group_rejected",
                message="Another entry of its group was rejected.",
            ),
            EntryResult(sequence=44, status="merged", version=233, overwrote={"0": {"duration_s": 140.0}}),
            EntryResult(sequence=45, status="applied", skipped=("j-5",)),
            EntryResult(sequence=46, status="applied", skipped=("j-2",)),
            EntryResult(sequence=47, status="applied"),
        ),
    ),
    "pull_answer": PullAnswer(
        request_id="5f0c9b21",
        server_time=TIME,
        server_epoch=1753111800000,
        epoch_head=180,
        items=(
            PullItem(
                collection="journeys",
                key="j-5",
                version=229,
                shape_version="2.0.0",
                body={"title": "To the lake", "duration_s": 60.0},
                patches=(
                    BesidePatch(patch=227, kind=EntryKind.PATCH, set={"duration": 2}, shape_version="1.1.0"),
                    BesidePatch(patch=229, kind=EntryKind.PATCH, set={"rating": 5}, shape_version="2.1.0"),
                ),
            ),
            PullItem(collection="saved_places", key="p-9", version=231, shape_version="1.1.0", body=None),
        ),
        cursor=CURSOR,
        more=False,
    ),
    "rows_answer": RowsAnswer(
        request_id="5f0c9b20",
        server_time=TIME,
        rows=(
            CloudRow(
                key="j-17", version=230, body={"title": "Along the canal", "completed": 1}, shape_version="2.0.0"
            ),
        ),
        next="j-17",
    ),
    "health_answer": HealthAnswer(nonce="9d2f", server_time=TIME),
    "error_answer": ErrorAnswer(
        error=Refusal(code="sequence_gap", message="The next sequence of this device is 42.", expected=42)
    ),
    "cursor_gone_answer": ErrorAnswer(
        error=Refusal(
            code="cursor_gone",
            message="The backend cannot read on from where this device stood.",
            reason="below_floor",
        )
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_message_is_written_as_its_golden_file_says_and_read_back_equal(name: str) -> None:
    example = EXAMPLES[name]
    golden = (GOLDEN / f"{name}.json").read_bytes()
    written = write_json(lean(example))
    assert json.dumps(json.loads(written), indent=2, ensure_ascii=False) + "\n" == golden.decode()
    assert type(example).model_validate(read_json(golden, depth_max=64)) == example


def test_every_golden_file_has_an_example() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(EXAMPLES)


def test_the_docs_show_the_golden_files() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"<!-- golden: (\w+) -->\n```json\n(.*?)```", text, re.DOTALL))
    assert set(shown) == set(EXAMPLES)
    for name, block in shown.items():
        assert json.loads(block) == json.loads((GOLDEN / f"{name}.json").read_bytes()), name


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_server_publishes_of_a_message_fits_its_golden_file(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_bytes())
    schema = {"$ref": f"#/components/schemas/{type(EXAMPLES[name]).__name__}"}
    assert schema_faults(golden, schema) == []


@pytest.mark.parametrize(
    "change",
    [
        {"entries": [{"sequence": 0, "group": 1, "kind": "put", "shape_version": "1"}]},
        {"entries": [{"sequence": 1, "group": 1, "kind": "canary", "shape_version": "1"}]},
        {"entries": [{"sequence": 1, "group": 1, "kind": "put"}]},
        {"entries": [{"sequence": 1, "group": 1, "kind": "put", "shape_version": "1", "set": 5}]},
        {"epoch": "1"},
        {"device": ""},
        {"protocol": 2},
        {"surprise": 1},
    ],
)
def test_what_the_models_refuse_does_not_fit_what_the_server_publishes_either(change: dict) -> None:
    wrong = json.loads((GOLDEN / "push_request.json").read_bytes()) | change
    with pytest.raises(ValidationError):
        PushRequest.model_validate(wrong)
    assert schema_faults(wrong, {"$ref": "#/components/schemas/PushRequest"}) != []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_unknown_field_is_refused_and_its_contents_are_not_told(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_bytes())
    with pytest.raises(ValidationError) as refused:
        type(EXAMPLES[name]).model_validate({**golden, "surprise": "canary"})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_messages_are_frozen(name: str) -> None:
    field = next(iter(type(EXAMPLES[name]).model_fields))
    with pytest.raises(ValidationError):
        setattr(EXAMPLES[name], field, "other")
