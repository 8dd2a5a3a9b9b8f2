"""Logs tell facts, never data: constant messages, short facts beside them, and a filter for what slips through.

A filter on a logger does not see what its children log (docs.python.org/3/library/logging.html, "Filter Objects"), so
the filter is put on each logger that speaks. It changes the record itself, so every handler gets the redacted one.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any

from syncengine.errors import SyncEngineError

TREES = frozenset({"syncengine", "httpx", "httpcore"})
"""The first words of the loggers that are redacted. The records of all others are left as they are."""

KNOWN_LOGGERS = (
    "syncengine",
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)

GONE = "…"
SECRETS_MAX = 64
"""Registered secrets that are remembered; the oldest is forgotten first."""
SECRET_LETTERS_MIN = 4
CHAIN_MAX = 8
"""Exceptions of one chain of causes that are named."""

Fact = int | float | bool | str | None


def log_event(logger: logging.Logger, level: int, message: str, /, **facts: Fact) -> None:
    """Log a constant message with facts in `extra`: numbers, booleans, and identifiers such as ids, codes and states.

    Any other text or type is replaced by the name of its type. A fact cannot be called like a LogRecord's own field
    (`name`, `args`, `message`, …): logging raises KeyError.
    """
    if logger.isEnabledFor(level):
        safe_facts = {key: _as_fact(value) for key, value in facts.items()}
        logger.log(level, message, extra=safe_facts, stacklevel=2)


def register_secret(text: str) -> None:
    """From now on this text is replaced in all redacted records, also where it is percent-encoded.

    Shorter than four letters it is not: replacing so little would show it by its gaps.
    """
    global _secrets
    if len(text) >= SECRET_LETTERS_MIN:
        known = dict.fromkeys((*_secrets, text, _percent_encoded(text)))
        _secrets = tuple(known)[-2 * SECRETS_MAX :]


def install_redaction() -> None:
    """Redact what `syncengine`, `httpx` and `httpcore` log in this process, at every level; safe to repeat.

    It puts the filter on the loggers that are there, and a record factory around the present one, which puts it on
    each other logger of these names when that first speaks.
    """
    for name in {*KNOWN_LOGGERS, *logging.root.manager.loggerDict}:
        if _is_ours(name):
            logging.getLogger(name).addFilter(_REDACTOR)
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _RedactingFactory):
        logging.setLogRecordFactory(_RedactingFactory(factory))


def remove_redaction() -> None:
    """Undo install_redaction(); safe to repeat."""
    factory = logging.getLogRecordFactory()
    if isinstance(factory, _RedactingFactory):
        logging.setLogRecordFactory(factory.previous)
    for name in list(logging.root.manager.loggerDict):
        if _is_ours(name):
            logging.getLogger(name).removeFilter(_REDACTOR)


class Redactor(logging.Filter):
    """Lets every record pass, without tokens, cookies, query strings, registered secrets or row contents.

    Only records of `syncengine`, `httpx` and `httpcore` are changed, and a second time changes nothing more, so a
    host may also put one on its own handlers. Arguments, extras and exceptions keep numbers, identifiers and the
    words of our own errors; line breaks and control characters are escaped, so a value cannot forge a line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if _is_ours(record.name):
            record.__dict__.update(_extras_as_facts(record))
            record.msg, record.args = _message_of(record), ()
            if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
                record.exc_text = "\n".join(_chain_of(record.exc_info[1]))
            record.exc_info = None
        return True


class _RedactingFactory:
    """Makes records as before; a logger of ours that has no filter yet gets it before its record is handled."""

    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, name: str | None, *details: Any, **named: Any) -> logging.LogRecord:
        # logging.makeLogRecord() asks for a record with no name.
        if name and _is_ours(name):
            logging.getLogger(name).addFilter(_REDACTOR)
        record: logging.LogRecord = self.previous(name, *details, **named)
        return record


def _is_ours(logger_name: str) -> bool:
    return logger_name.partition(".")[0] in TREES


# What of a record may stay ----------------------------------------------------------------------------------------

OWN_FIELDS = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
"""What every LogRecord has; the rest came in by `extra`."""

AFTER_EVENT_NAME = re.compile(r"[^\w.]")
"""Where httpcore, having named the event, begins to show a request's or an answer's headers."""


def _message_of(record: logging.LogRecord) -> str:
    if not isinstance(record.msg, str):
        return str(_as_argument(record.msg))
    if record.name.startswith("httpcore"):
        event, *_details = AFTER_EVENT_NAME.split(record.msg, maxsplit=1)
        return str(event)
    return _readable(_filled_in(record.msg, record.args))


def _filled_in(template: str, values: Any) -> str:
    """The message with its arguments; without them where they cannot be filled in once they are redacted."""
    if not values:
        return template
    safe: Any = (
        {key: _as_argument(value) for key, value in values.items()}
        if isinstance(values, dict)
        else tuple(_as_argument(value) for value in values)
    )
    try:
        filled: str = template % safe
    except (TypeError, ValueError, KeyError):
        return template
    return filled


def _extras_as_facts(record: logging.LogRecord) -> dict[str, Fact]:
    return {key: _as_fact(value) for key, value in record.__dict__.items() if key not in OWN_FIELDS}


IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
TYPE_NAME = re.compile(r"<\w+>")
PROTOCOL_WORD = re.compile(r"[A-Z]{1,10}|HTTP/[0-9.]{1,3}")
"""A method or a version, as httpx gives them as arguments."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")


def _as_fact(value: object) -> Fact:
    """Facts are named one by one, so an identifier among them is meant to be seen."""
    return _as_seen(value, words=IDENTIFIER)


def _as_argument(value: object) -> Fact:
    """Arguments of a message may be anything, a word of a row too."""
    return _as_seen(value, words=PROTOCOL_WORD)


def _as_seen(value: object, *, words: re.Pattern[str]) -> Fact:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return _named(value)
    text = str(value) if _is_url(value) else value
    if not isinstance(text, str):
        return f"<{type(value).__name__}>"
    if URL.fullmatch(text) or TYPE_NAME.fullmatch(text) or words.fullmatch(text):
        return _readable(text)
    return "<str>"


def _is_url(value: object) -> bool:
    kind = type(value)
    return kind.__name__ == "URL" and kind.__module__.partition(".")[0] == "httpx"


def _chain_of(error: BaseException) -> Iterator[str]:
    """One line for each exception and what caused it, with the place in the code and no more."""
    current: BaseException | None = error
    for depth in range(CHAIN_MAX):
        if current is None:
            return
        yield f"{'caused by ' if depth else ''}{_named(current)}{_place_of(current)}"
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _named(error: BaseException) -> str:
    """Our errors by type and message, which never hold row contents; others by type, for theirs may."""
    name = type(error).__name__
    return f"{name}: {_readable(error.what)}" if isinstance(error, SyncEngineError) else name


def _place_of(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    file = re.split(r"[/\\]", code.co_filename)[-1]
    return f" (at {file}:{trace.tb_lineno} in {code.co_name})"


# Text -------------------------------------------------------------------------------------------------------------

HEADER = re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)\b.*", re.IGNORECASE | re.DOTALL)
CREDENTIALS = re.compile(r"\b(bearer|basic|digest)\s+\S+", re.IGNORECASE)
JSON_WEB_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?")
QUERY = re.compile(r"\?[^\s\"']*=[^\s\"']*")
HOST = re.compile(r"(?P<scheme>[^:]+://)(?:[^/?#@]*@)?(?P<host>(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?)(?=[/?#]|$)")
NOT_UNRESERVED = re.compile(r"[^A-Za-z0-9._~-]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_secrets: tuple[str, ...] = ()


def _readable(text: str) -> str:
    """The text without secrets, each address cut to its host, in one line."""
    for secret in sorted(_secrets, key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, GONE)
    text = URL.sub(lambda found: _host_of(found[0]), text)
    text = HEADER.sub(rf"\1: {GONE}", text)
    text = CREDENTIALS.sub(rf"\1 {GONE}", text)
    text = JSON_WEB_TOKEN.sub(GONE, text)
    text = QUERY.sub(f"?{GONE}", text)
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _host_of(url: str) -> str:
    """Scheme, host and port: paths hold ids of users and rows, and queries and user names hold worse."""
    found = HOST.match(url)
    return f"{found['scheme']}{found['host']}/{GONE}" if found else GONE


def _percent_encoded(text: str) -> str:
    """As RFC 3986, 2.1 and 2.3, writes it inside an address."""
    return "".join(f"%{byte:02X}" if NOT_UNRESERVED.match(chr(byte)) else chr(byte) for byte in text.encode())


_REDACTOR = Redactor()

# Without a handler of the host's, logging would print our warnings to stderr: a library stays silent.
logging.getLogger("syncengine").addHandler(logging.NullHandler())
