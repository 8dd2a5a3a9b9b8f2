"""No token, row or address gets into a log, at any level, by any of our loggers."""

import io
import logging
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from syncengine.errors import MigrationFailed, StoreBusy
from syncengine.logs import Redactor, install_redaction, log_event, register_secret, remove_redaction

CANARY = "Kanarienvogel"


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a host that logs everything, with tracebacks and extras, would write."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(_Everything("%(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    install_redaction()
    yield text
    remove_redaction()
    root.setLevel(level)
    root.removeHandler(handler)


class _Everything(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        known = {*logging.makeLogRecord({}).__dict__, "message"}
        extras = {key: value for key, value in record.__dict__.items() if key not in known}
        return f"{line} {extras}" if extras else line


@pytest.fixture
def address() -> Iterator[str]:
    """A server that sets a cookie and repeats the canary in its headers and body."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200, f"OK {CANARY}")
            self.send_header("Set-Cookie", f"session={CANARY}")
            self.send_header("X-Echo", CANARY)
            self.send_header("Content-Length", str(len(CANARY)))
            self.end_headers()
            self.wfile.write(CANARY.encode())

        def log_message(self, *details: object) -> None:
            """Keep the test's own server quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_real_request_shows_its_steps_and_nothing_of_what_it_carried(output, address):
    with httpx.Client(headers={"Authorization": f"Bearer {CANARY}"}, cookies={"id": CANARY}) as client:
        client.get(f"{address}/users/{CANARY}?token={CANARY}").raise_for_status()
    text = output.getvalue()
    assert CANARY not in text
    assert f'HTTP Request: GET {address}/… "HTTP/1.1 200 <str>"' in text
    assert "httpcore.http11 send_request_headers.started" in text
    assert "httpcore.connection connect_tcp.complete" in text


def test_the_same_request_without_redaction_does_show_the_canary(output, address):
    remove_redaction()
    with httpx.Client() as client:
        client.get(f"{address}/?token={CANARY}")
    assert CANARY in output.getvalue()


@pytest.mark.parametrize("name", ["syncengine", "syncengine.outbox", "syncengine.made.later", "httpcore.made_later"])
def test_arguments_are_numbers_or_their_type(output, name):
    logging.getLogger(name).debug("row %s of %d at %s: %r", {"note": CANARY}, 7, CANARY, [CANARY])
    assert CANARY not in output.getvalue()


def test_a_message_keeps_its_numbers(output):
    logging.getLogger("syncengine.x").info("sent %d of %.1f in %s %s", 3, 4.0, CANARY, None)
    logging.getLogger("syncengine.x").info("sent %(n)d of %(row)s", {"n": 3, "row": CANARY})
    assert "sent 3 of 4.0 in <str> None" in output.getvalue()
    assert "sent 3 of <str>" in output.getvalue()


def test_arguments_that_no_longer_fit_leave_the_message_alone(output, capsys):
    logging.getLogger("syncengine.x").info("sent %d", CANARY)
    assert "syncengine.x sent %d" in output.getvalue()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"asked with Authorization: Bearer {CANARY}", "asked with Authorization: …"),
        (f"headers [(b'cookie', b'a={CANARY}'), (b'x', b'{CANARY}')]", "headers [(b'cookie: …"),
        (f"token is bearer {CANARY}", "token is bearer …"),
        (
            f"went to https://me:{CANARY}@example.org:8443/{CANARY}?q={CANARY}#{CANARY} twice",
            "https://example.org:8443/… twice",
        ),
        (f"went to /sync?token={CANARY}&x=1 twice", "went to /sync?… twice"),
        (f"token eyJhbGciOiJIUzI1NiJ9.eyJ{CANARY}.{CANARY} refused", "token … refused"),
        (f"at http://[{CANARY} now", "at … now"),
        (f"at https://me:{CANARY}/x@host/ now", "at … now"),
        (f"at http://[::1]:80/{CANARY}", "at http://[::1]:80/…"),
        (f"at http://example.org?{CANARY}", "at http://example.org/…"),
    ],
)
def test_what_a_message_lets_slip_through_is_cut_out(output, message, shown):
    logging.getLogger("syncengine.remote").warning(message)
    assert CANARY not in output.getvalue()
    assert shown in output.getvalue()


def test_a_registered_secret_is_replaced_wherever_it_stands(output):
    register_secret("tok/en+9731")
    register_secret("ключ-4455")
    logger = logging.getLogger("syncengine.remote")
    logger.warning("got tok/en+9731 and tok%2Fen%2B9731 and %D0%BA%D0%BB%D1%8E%D1%87-4455")
    register_secret("opaque31337")
    log_event(logger, logging.INFO, "signed in", token="opaque31337", user="u-1")
    assert "got … and … and …" in output.getvalue()
    assert "opaque31337" not in output.getvalue()
    assert "'user': 'u-1'" in output.getvalue()


def test_a_secret_that_begins_with_another_is_replaced_whole(output):
    register_secret("prefix77")
    register_secret("prefix77-and-tail")
    logging.getLogger("syncengine").info("got prefix77-and-tail.")
    assert "got …." in output.getvalue()


def test_the_known_loggers_stay_redacted_when_another_library_replaces_the_record_factory(output):
    logging.setLogRecordFactory(logging.LogRecord)
    for name in ("syncengine", "httpx", "httpcore.http11", "httpcore.proxy"):
        logging.getLogger(name).debug("did %s", CANARY)
    assert output.getvalue().count("did") == 4
    assert CANARY not in output.getvalue()


def test_a_secret_too_short_to_hide_is_not_replaced(output):
    register_secret("e")
    logging.getLogger("syncengine").info("everything else stays")
    assert "everything else stays" in output.getvalue()


def test_a_value_cannot_forge_a_line(output):
    logging.getLogger("syncengine.x").info("one\r\nERROR syncengine two\x1b[31m\u2028three")
    assert output.getvalue().count("\n") == 1
    assert r"one\r\nERROR syncengine two\x1b[31m\u2028three" in output.getvalue()


def test_a_traceback_names_types_places_and_our_own_words_only(output):
    try:
        _fail_with_a_row()
    except MigrationFailed:
        logging.getLogger("syncengine.migrate").exception("stopped")
    text = output.getvalue()
    assert CANARY not in text
    assert "MigrationFailed: Migration notes_to_text failed. (at test_logs.py:" in text
    assert "caused by InvalidOperation (at test_logs.py:" in text
    assert "caused by ValueError" in text


def _fail_with_a_row() -> None:
    try:
        _decode(CANARY)
    except ArithmeticError as error:
        raise MigrationFailed("Migration notes_to_text failed.", why=CANARY) from error


def _decode(row: str) -> None:
    try:
        int(row)
    except ValueError:
        Decimal(row)


def test_an_exception_as_argument_or_message_is_its_type(output):
    logger = logging.getLogger("syncengine.x")
    logger.warning("failed: %s and %s", ValueError(CANARY), StoreBusy("The store is busy."))
    logger.warning(ValueError(CANARY))
    assert "failed: ValueError and StoreBusy: The store is busy." in output.getvalue()
    assert CANARY not in output.getvalue()


def test_extras_are_facts_whoever_gives_them(output):
    logging.getLogger("syncengine.new.logger").info(
        "done", extra={"row": {"note": CANARY}, "note": f"a {CANARY}", "rows": 12, "state": "waiting"}
    )
    assert CANARY not in output.getvalue()
    assert "'row': '<dict>', 'note': '<str>', 'rows': 12, 'state': 'waiting'" in output.getvalue()


def test_fields_that_a_hosts_record_factory_adds_are_facts_too(output):
    remove_redaction()
    before = logging.getLogRecordFactory()

    def with_user(*details, **named):
        record = before(*details, **named)
        record.user = f"{CANARY} Maier"
        return record

    logging.setLogRecordFactory(with_user)
    install_redaction()
    logging.getLogger("syncengine.x").info("done")
    remove_redaction()
    logging.setLogRecordFactory(before)
    assert "done" in output.getvalue()
    assert CANARY not in output.getvalue()


def test_log_event_gives_constant_message_and_safe_facts_even_without_redaction(output):
    remove_redaction()
    logger = logging.getLogger("syncengine.outbox")
    log_event(
        logger, logging.INFO, "batch sent", entries=12, ratio=0.5, late=False, id="dev-1:3:17", row=f"x {CANARY}"
    )
    line = output.getvalue()
    assert line.startswith("INFO syncengine.outbox batch sent")
    assert "'entries': 12, 'ratio': 0.5, 'late': False, 'id': 'dev-1:3:17', 'row': '<str>'" in line


def test_log_event_is_silent_below_the_level(output):
    logger = logging.getLogger("syncengine.quiet")
    logger.setLevel(logging.WARNING)
    log_event(logger, logging.INFO, "not said")
    assert output.getvalue() == ""


def test_loggers_of_others_are_left_as_they_are(output):
    logging.getLogger("app.syncengine").info("their %s", CANARY)
    logging.getLogger("httpxtra").info("their\n%s", CANARY)
    assert output.getvalue().count(CANARY) == 2


def test_a_redactor_on_a_handler_covers_what_was_not_installed(output):
    remove_redaction()
    (handler,) = [each for each in logging.getLogger().handlers if isinstance(each.formatter, _Everything)]
    handler.addFilter(Redactor())
    logging.getLogger("syncengine.x").info("row %s", CANARY)
    logging.getLogger("other").info("kept %s", "theirs")
    assert CANARY not in output.getvalue()
    assert "kept theirs" in output.getvalue()


def test_two_redactors_in_a_row_change_a_record_once(output):
    (handler,) = [each for each in logging.getLogger().handlers if isinstance(each.formatter, _Everything)]
    handler.addFilter(Redactor())
    logging.getLogger("syncengine.x").info("one\ntwo", extra={"row": {}})
    assert r"one\ntwo" in output.getvalue()
    assert r"one\\ntwo" not in output.getvalue()
    assert "'row': '<dict>'" in output.getvalue()


def test_installing_twice_and_removing_once_leaves_nothing_behind(output):
    remove_redaction()
    before = logging.getLogRecordFactory()
    install_redaction()
    install_redaction()
    logging.getLogger("syncengine.only.once").info("hello")
    remove_redaction()
    assert logging.getLogRecordFactory() is before
    remove_redaction()
    assert logging.getLogRecordFactory() is before
    assert logging.getLogger("syncengine.only.once").filters == []


def test_the_package_adds_a_null_handler_and_no_more():
    (handler,) = logging.getLogger("syncengine").handlers
    assert isinstance(handler, logging.NullHandler)
