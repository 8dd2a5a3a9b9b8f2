"""One example of each message, word for word: the models, the golden files and docs/protocol.md agree."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from syncengine.remote.json_text import read_json, write_json
from syncengine.remote.wire import (
    Action,
    CloudRow,
    EntryKind,
    EntryResult,
    ErrorAnswer,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    Limits,
    PushAnswer,
    PushEntry,
    PushRequest,
    Refusal,
    RowChange,
    RowsAnswer,
    WireModel,
)

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "wire"
TIME = "2025-07-21T15:30:00.000Z"
DEVICE = "0b7e6f2ad1c84e5f9a3b6c7d8e9f0a1b"

EXAMPLES: dict[str, WireModel] = {
    "hello_request": HelloRequest(
        request_id="5f0c9b1e", user="ann", app="heros-path", device=DEVICE, epoch=1, schema_version="2.0.0"
    ),
    "hello_answer": HelloAnswer(
        request_id="5f0c9b1e",
        server_time=TIME,
        server_epoch=1753111800000,
        device_seq=41,
        cloud_version="1.1.0",
        action=Action.OK,
        limits=Limits(entries_max=5000, bytes_max=16777216),
    ),
    "push_request": PushRequest(
        request_id="5f0c9b1f",
        user="ann",
        device=DEVICE,
        epoch=1,
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
            ),
            PushEntry(
                sequence=43,
                group=18,
                kind=EntryKind.DELETE,
                collection="saved_places",
                key="p-4",
                base_version=198,
                shape_version="1.1.0",
            ),
            PushEntry(
                sequence=44,
                group=19,
                kind=EntryKind.MIGRATION,
                collection="",
                key="",
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
            ),
            PushEntry(sequence=45, group=20, kind=EntryKind.VOID, collection="", key="", shape_version="2.0.0"),
        ),
    ),
    "push_answer": PushAnswer(
        request_id="5f0c9b1f",
        server_time=TIME,
        device_seq=45,
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
            EntryResult(sequence=44, status="applied", skipped=("j-2",)),
            EntryResult(sequence=45, status="applied"),
        ),
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
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_message_is_written_as_its_golden_file_says_and_read_back_equal(name: str) -> None:
    example = EXAMPLES[name]
    golden = (GOLDEN / f"{name}.json").read_bytes()
    written = write_json(example.model_dump())
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
