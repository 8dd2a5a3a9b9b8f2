"""A cloud by the protocol's rules for entries, small enough to read: rows, what lies beside them, tombstones."""

import json
from dataclasses import dataclass, field
from typing import Any


class Refused(Exception):
    """The cloud will never take this entry."""


@dataclass
class Document:
    """One row. `body` None: a tombstone. `beside` are writes of another shape, in order."""

    shape: str
    version: int
    body: dict[str, Any] | None
    beside: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


class ModelCloud:
    """Takes entries of one collection, one by one."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Document] = {}
        self.version = 0

    def take(self, entry: Any) -> None:
        """Raises Refused; nothing is changed then."""
        if entry.kind == "void":
            return
        before = {name: Document(d.shape, d.version, d.body, list(d.beside)) for name, d in self.rows.items()}
        try:
            if entry.kind == "changes":
                for change in json.loads(entry.set_json):
                    self._one(entry, change["kind"], change["key"], change["set"], change.get("if_version"))
            else:
                self._one(entry, str(entry.kind), entry.row_key, json.loads(entry.set_json or "null"), None)
        except Refused:
            self.rows = before
            raise

    def _one(self, entry: Any, kind: str, key: str, body: dict[str, Any] | None, if_version: int | None) -> None:
        name = (entry.owner, key)
        there = self.rows.get(name)
        if if_version is not None and if_version != (there.version if there else 0):
            return
        self.version += 1
        if kind == "delete":
            self.rows[name] = Document(entry.shape_version, self.version, None)
        elif kind in ("put", "lift"):
            self._put(name, there, entry.shape_version, body)
        else:
            self._patch(there, entry.shape_version, body)

    def _put(self, name: tuple[str, str], there: Document | None, shape: str, body: Any) -> None:
        if there is None or there.body is None:
            self.rows[name] = Document(shape, self.version, body)
        elif there.shape == shape:
            there.body, there.version = {**there.body, **body}, self.version
        else:
            there.beside.append(("put", shape, body))
            there.version = self.version

    def _patch(self, there: Document | None, shape: str, body: Any) -> None:
        if there is None or there.body is None:
            raise Refused
        if there.shape == shape:
            there.body = {**there.body, **body}
        else:
            there.beside.append(("patch", shape, body))
        there.version = self.version
