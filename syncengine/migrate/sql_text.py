"""CREATE statements as texts: under another name, or without their foreign keys. SQLite itself checks the result.

Grammar: sqlite.org/lang_createtable.html, lang_createindex.html, syntax/foreign-key-clause.html.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted

TEXTS_KEPT = 64
"""One migration asks about the same few texts again and again."""

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<text>'(?:[^']|'')*')
      | (?P<word>[^\W\d][\w$]*)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, name, text or mark of a statement, and where it stands."""

    kind: str
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.upper() in words

    @property
    def identifier(self) -> str:
        """The name that it is, without quotes."""
        if self.kind == "word":
            return self.text
        closing = self.text[-1]
        return self.text[1:-1].replace(closing * 2, closing)


@lru_cache(maxsize=TEXTS_KEPT)
def tokens_of(sql: str) -> tuple[Token, ...]:
    """What stands in a statement; blanks and comments left out."""
    return tuple(
        Token(str(found.lastgroup), found.group(), found.start(), found.end())
        for found in _TOKEN.finditer(sql)
        if found.lastgroup != "blank"
    )


def column_comments(sql: str) -> dict[str, str]:
    """What a CREATE TABLE says of its columns: comments behind one on its line, or on the lines before it.

    Behind several on one line it is of the first: ALTER TABLE ADD COLUMN puts the new one before such a comment.
    """
    said: dict[str, list[str]] = {}
    ahead: list[str] = []
    on_line: list[str] = []
    depth, before, last = 0, 0, ""
    for found in _TOKEN.finditer(sql):
        text = found.group()
        if "\n" in sql[before : found.start()]:
            on_line = []
        before = found.start()
        if found.lastgroup == "blank":
            if comment := _said_in(text):
                own = text.startswith("/*") and last != ","
                (said[on_line[-1] if own else on_line[0]] if on_line else ahead).append(comment)
            continue
        if depth == 1 and last in ("(", ","):
            on_line.append(Token(str(found.lastgroup), text, 0, 0).identifier)
            said[on_line[-1]], ahead = ahead, []
        depth += (text == "(") - (text == ")")
        last = text if depth == 1 else ""
        on_line = on_line if depth else []
    return {name: " ".join(comments) for name, comments in said.items() if comments}


def _said_in(blank: str) -> str:
    """The words of a comment; empty for blanks."""
    return " ".join(blank.removeprefix("--").removeprefix("/*").removesuffix("*/").split())


def created_name(sql: str) -> str:
    """The name of the table or index that a CREATE statement makes. Raises MigrationInvalid for other SQL."""
    tokens = tokens_of(sql)
    return tokens[_name_place(sql, tokens)].identifier


def table_as(sql: str, name: str) -> str:
    """A CREATE TABLE under another name. Raises MigrationInvalid for other SQL."""
    tokens = tokens_of(sql)
    return f"CREATE TABLE {quoted(name)}{sql[tokens[_name_place(sql, tokens)].end :]}"


def index_as(sql: str, *, name: str, table: str) -> str:
    """A CREATE INDEX under another name and on another table. Raises MigrationInvalid for other SQL."""
    tokens = tokens_of(sql)
    place = _name_place(sql, tokens)
    if len(tokens) < place + 3 or not tokens[place + 1].is_word("ON"):
        raise _no_create(sql)
    unique = "UNIQUE " if any(token.is_word("UNIQUE") for token in tokens[:place]) else ""
    return f"CREATE {unique}INDEX {quoted(name)} ON {quoted(table)}{sql[tokens[place + 2].end :]}"


def index_text(sql: str) -> str:
    """A CREATE INDEX as SQLite keeps it: without IF NOT EXISTS and the name of the database."""
    tokens = tokens_of(sql)
    place = _name_place(sql, tokens)
    unique = "UNIQUE " if any(token.is_word("UNIQUE") for token in tokens[:place]) else ""
    return f"CREATE {unique}INDEX {sql[tokens[place].start :]}"


def _name_place(sql: str, tokens: Sequence[Token]) -> int:
    place = 1
    if not tokens or not tokens[0].is_word("CREATE"):
        raise _no_create(sql)
    while place < len(tokens) and tokens[place].is_word("TEMP", "TEMPORARY", "UNIQUE"):
        place += 1
    if place >= len(tokens) or not tokens[place].is_word("TABLE", "INDEX"):
        raise _no_create(sql)
    place += 1
    if place + 2 < len(tokens) and tokens[place].is_word("IF") and tokens[place + 1].is_word("NOT"):
        place += 3
    if place + 1 < len(tokens) and tokens[place + 1].text == ".":
        place += 2
    if place >= len(tokens):
        raise _no_create(sql)
    return place


def _no_create(sql: str) -> MigrationInvalid:
    return MigrationInvalid(
        "A text was given for a table that is no CREATE TABLE or CREATE INDEX.",
        why=f"it begins with {' '.join(sql.split()[:3])!r}",
        fix="Write one CREATE TABLE, then its CREATE INDEX statements.",
    )


def referred_tables(sql: str) -> tuple[str, ...]:
    """The tables that the foreign keys of a CREATE TABLE name, in lower case."""
    tokens = tokens_of(sql)
    return tuple(
        tokens[place + 1].identifier.lower() for place, token in enumerate(tokens[:-1]) if token.is_word("REFERENCES")
    )


def without_foreign_keys(sql: str) -> str:
    """A CREATE TABLE whose columns refer to nothing. The rows are laid out alike."""
    tokens = tokens_of(sql)
    gone: list[tuple[int, int]] = []
    for place, token in enumerate(tokens):
        if token.is_word("REFERENCES"):
            gone.append(_foreign_key_clause(tokens, place))
    kept, start = [], 0
    for first, last in gone:
        kept.append(sql[start : tokens[first].start])
        start = tokens[last].end
    return "".join(kept) + sql[start:]


def _foreign_key_clause(tokens: Sequence[Token], place: int) -> tuple[int, int]:
    """From its first to its last token, with the comma before it where it is a constraint of the table."""
    first, last = place, _end_of_foreign_key(tokens, place)
    of_table = tokens[place - 1].text == ")" and (begin := _foreign_key_words(tokens, place)) is not None
    if of_table:
        assert begin is not None
        first = begin
    if tokens[first - 2].is_word("CONSTRAINT"):
        first -= 2
    if of_table and tokens[first - 1].text == ",":
        first -= 1
    return first, last


def _foreign_key_words(tokens: Sequence[Token], place: int) -> int | None:
    """Where FOREIGN KEY (...) before REFERENCES begins; None where the ) is of something else."""
    while place > 0 and tokens[place].text != "(":
        place -= 1
    begins = place - 2
    return begins if begins > 0 and tokens[begins].is_word("FOREIGN") else None


def _end_of_foreign_key(tokens: Sequence[Token], place: int) -> int:
    last = place + 1
    if tokens[last + 1].text == "(":
        while tokens[last].text != ")":
            last += 1
    while True:
        after = tokens[last + 1 : last + 4]
        taken = _rule_length(after)
        if taken == 0:
            return last
        last += taken


def _rule_length(after: Sequence[Token]) -> int:
    """How many of these tokens are a rule of a foreign key: ON DELETE SET NULL, MATCH x, NOT DEFERRABLE, …"""
    if after[0].is_word("ON"):
        # ON CONFLICT belongs to another constraint.
        if not after[1].is_word("DELETE", "UPDATE"):
            return 0
        return 4 if after[2].is_word("SET", "NO") else 3
    if after[0].is_word("MATCH"):
        return 2
    if after[0].is_word("NOT"):
        return 2 if after[1].is_word("DEFERRABLE") else 0
    if after[0].is_word("INITIALLY"):
        return 2
    return 1 if after[0].is_word("DEFERRABLE") else 0
