"""The code of a migration as it is in memory, as a hash: may a run go on with what an earlier one began?

Bytecode is there in a frozen app, too, and it says what will run. From a function on, the functions, classes and
values that it names are followed through the modules of the same top-level package; the sources of these modules are
taken in where there are any. Another Python gives another hash, and then a run begins anew. For people, and for what
outlives a release of Python, there is `syncengine.testing.frozen`.

Not followed: what lies in other packages (those are named only), and what is looked up by name at run time.
"""

import dataclasses
import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

THINGS_MAX = 10_000
"""What names more than so many is not followed to its end, and has no hash."""

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis))
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def hash_of_code(roots: Iterable[object]) -> str | None:
    """SHA-256 over all that these functions, classes and values lead to; None where that has no end."""
    try:
        return _Walk().hash_of(tuple(roots))
    except (_TooMuch, RecursionError):
        return None


class _TooMuch(Exception):
    """There is more to follow than THINGS_MAX."""


class _Walk:
    """From thing to thing, each once."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []
        """So that no address is used twice while it lasts."""
        self._packages: set[str] = set()
        self._modules: set[str] = set()

    def hash_of(self, roots: tuple[object, ...]) -> str:
        for root in roots:
            self._packages.add(_package_of(root))
        self._packages -= {"", "builtins", "syncengine"}
        for root in roots:
            self._take(root)
        for name in sorted(self._modules):
            self._say(name, _source_of(name))
        return self._digest.hexdigest()

    def _say(self, *parts: object) -> None:
        self._digest.update(repr(parts).encode(errors="surrogatepass"))

    def _take(self, thing: object) -> None:
        if isinstance(thing, _PLAIN):
            self._say(type(thing).__name__, thing)
            return
        if id(thing) in self._seen:
            self._say("again", self._seen[id(thing)])
            return
        if len(self._seen) == THINGS_MAX:
            raise _TooMuch
        self._seen[id(thing)] = len(self._seen)
        self._kept.append(thing)
        self._open(thing)

    def _open(self, thing: Any) -> None:
        if isinstance(thing, FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, CodeType):
            self._code(thing)
        elif isinstance(thing, ModuleType):
            self._say("module", thing.__name__)
        elif isinstance(thing, Mapping):
            self._all("mapping", (part for pair in thing.items() for part in pair))
        elif isinstance(thing, list | tuple):
            self._all(type(thing).__name__, thing)
        elif isinstance(thing, set | frozenset):
            self._all("set", sorted(thing, key=repr))
        else:
            self._instance(thing)

    def _all(self, what: str, parts: Iterable[object]) -> None:
        self._say(what)
        for part in parts:
            self._take(part)
        self._say("end")

    # Functions.

    def _function(self, function: FunctionType) -> None:
        self._say("function", function.__module__, function.__qualname__)
        if _top(function.__module__) not in self._packages | {"syncengine"}:
            return
        self._modules.add(function.__module__)
        for part in (function.__code__, function.__defaults__, function.__kwdefaults__, function.__annotations__):
            self._take(part)
        for cell in function.__closure__ or ():
            self._take(_content(cell))
        if _top(function.__module__) in self._packages:  # of the engine's own only what it was given
            self._named(function)

    def _named(self, function: FunctionType) -> None:
        """The values of the names that its code uses; of a module those of its attributes that it may use."""
        names = sorted(_names_in(function.__code__))
        for name in names:
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            self._say("name", name)
            self._take(value)
            if isinstance(value, ModuleType) and _top(value.__name__) in self._packages:
                self._modules.add(value.__name__)
                for attribute in names:
                    if attribute in vars(value):
                        self._take(vars(value)[attribute])

    def _code(self, code: CodeType) -> None:
        self._say(code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)
        self._say(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_exceptiontable)
        self._all("constants", code.co_consts)

    # Classes, and what is made of them.

    def _class(self, kind: type) -> None:
        self._say("class", kind.__module__, kind.__qualname__)
        if _top(kind.__module__) not in self._packages:
            return
        self._modules.add(kind.__module__)
        self._all("bases", kind.__bases__)
        own = dict(vars(kind))
        fields = own.get("__pydantic_fields__")
        for name in sorted(own):
            is_pythons = name.startswith("__") and name.endswith("__")
            if not is_pythons or name == "__annotations__" or isinstance(own[name], FunctionType):
                self._member(name, own[name])
        if fields is not None:
            self._all("fields", fields.items())

    def _member(self, name: str, value: object) -> None:
        self._say("member", name)
        if name.startswith(("_abc_", "__pydantic_", "__weakref")):
            return
        self._take(value)

    def _instance(self, thing: Any) -> None:
        kind = type(thing)
        self._say("instance", kind.__module__, kind.__qualname__)
        self._take(kind)
        if isinstance(thing, BuiltinFunctionType):
            self._say(thing.__qualname__)
            return
        for name in ("__func__", "__wrapped__", "fget", "fset", "func", "args", "keywords", "wrapped"):
            part = inspect.getattr_static(thing, name, None)
            if part is not None:
                self._take(getattr(thing, name))
        if dataclasses.is_dataclass(thing):
            self._all("fields", (getattr(thing, field.name, None) for field in dataclasses.fields(thing)))
        elif _top(kind.__module__) in self._packages and hasattr(thing, "__dict__"):
            self._all("attributes", (part for pair in sorted(vars(thing).items()) for part in pair))
        else:
            self._say(_ADDRESS.sub("", repr(thing)))


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"  # of a function that is not made yet


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _package_of(thing: object) -> str:
    return _top(getattr(thing, "__module__", None))


def _source_of(module: str) -> str:
    found = sys.modules.get(module)
    try:
        return inspect.getsource(found) if found is not None else ""
    except (OSError, TypeError):
        return ""  # a frozen app has no sources
