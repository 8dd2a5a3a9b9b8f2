"""Is this failure one row's fault? Then it goes to quarantine with a reason; everything else stops the run."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from syncengine.local.identifiers import NameUnusable
from syncengine.local.sqlite_errors import ConstraintError, MismatchError
from syncengine.migrate.definition import Quarantine, WrongReturn
from syncengine.migrate.policy import is_of_a_row

_STANDARD_LIBRARY = str(Path(os.__file__).parent)

CODE_FAILED = "conversion_failed"
"""The author's code raised, or gave back what it must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a row was set aside: a code for tables, a sentence without row contents, the path of the field."""

    code: str
    text: str
    field: str | None = None
    rows_to_judge_code: int = 10
    """So many rows, all failed like this, say that the code is wrong and not they."""

    @property
    def told(self) -> str:
        """The sentence, with the field."""
        return f"{self.text} ({self.field})" if self.field else self.text


def rejection_for(error: Exception) -> Rejection | None:
    """The reason, if it is about the row; None for what is about the store, the engine or the machine."""
    if not is_of_a_row(error):
        return None
    if isinstance(error, WrongReturn):
        return Rejection(code=CODE_FAILED, text=error.why, rows_to_judge_code=1)
    if isinstance(error, Quarantine):
        return Rejection(code="quarantined_by_rule", text=error.why, field=error.field)
    if isinstance(error, ConstraintError | MismatchError):
        # "UNIQUE constraint failed: journeys.id": names of columns, never a value.
        return Rejection(code="constraint_failed", text=str(error), field=_column_in(str(error)))
    return _of_code(error)


_ONE_COLUMN = re.compile(r"(?:constraint failed: |column )[^\s,]+\.([^\s,.]+)$")


def _column_in(text: str) -> str | None:
    """The column of "NOT NULL constraint failed: t.c", and of "cannot store TEXT value in INTEGER column t.c"."""
    found = _ONE_COLUMN.search(text)
    return found.group(1) if found else None


def _of_code(error: Exception) -> Rejection:
    from pydantic import ValidationError

    from syncengine.migrate.row_codec import why_invalid

    if isinstance(error, ValidationError):
        text, field = why_invalid(error)
        return Rejection(code="shape_invalid", text=text, field=field or None)
    # Its message may quote the row.
    slip = isinstance(error, AttributeError | NameError | ImportError)
    return Rejection(code=CODE_FAILED, text=name_of(error), rows_to_judge_code=2 if slip else 10)


def name_of(error: Exception) -> str:
    """Its kind, and where in the author's code it was raised; never its message, which may quote a row. A name that
    no table can have is told: it is the author's."""
    if isinstance(error, NameUnusable):
        return str(error)
    place = _place_of(error)
    return f"{type(error).__name__} in the migration's code: {place}" if place else type(error).__name__


def _place_of(error: Exception) -> str:
    """Function, file and line of the author's code that raised it."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        is_ours = str(trace.tb_frame.f_globals.get("__name__", "")).startswith("syncengine.")
        if not is_ours and "-packages" not in code.co_filename and not code.co_filename.startswith(_STANDARD_LIBRARY):
            found = f"{code.co_name}, {Path(code.co_filename).name} line {trace.tb_lineno}"
        trace = trace.tb_next
    return found
