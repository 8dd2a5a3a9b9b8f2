"""A hash of code as it is in memory: the same for the same code, another for whatever changes what a row becomes."""

import os
import subprocess
import sys
from types import ModuleType

import pytest

from syncengine.migrate.code_in_use import THINGS_MAX, hash_of_code

CODE = """
import re
import app_under_test.words as words

FACTOR = 60
NAMES = {"a": ("x", "y")}
PATTERN = re.compile("a+")

def helper(value, by=1):
    return value * FACTOR * by

class Shape:
    low = 1
    def length(self):
        return len(NAMES) + self.low

def made(bound):
    return lambda value: min(value, bound)

limited = made(7)

def f(old):
    inner = [helper(part) for part in old if PATTERN.match(part)]
    return Shape().length(), inner, limited(3), words.said(old)
"""
WORDS = "def said(old):\n    return 'once'\n\ndef never_asked():\n    return 1\n"


def hash_of(code=CODE, words=WORDS):
    """Of code without a source, as a frozen app has it."""
    package, inner = ModuleType("app_under_test"), ModuleType("app_under_test.words")
    module = ModuleType("app_under_test.migrations")
    exec(compile(words, "<frozen>", "exec"), vars(inner))
    package.words = inner
    sys.modules.update({"app_under_test": package, "app_under_test.words": inner})
    try:
        exec(compile(code, "<frozen>", "exec"), vars(module))
    finally:
        del sys.modules["app_under_test"], sys.modules["app_under_test.words"]
    return hash_of_code([module.f])


def test_the_same_code_has_the_same_hash_wherever_it_stands():
    assert hash_of() is not None
    assert hash_of() == hash_of("\n\n# said otherwise\n" + CODE)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("FACTOR = 60", "FACTOR = 61"),
        ('"y")', '"z")'),
        ('"a+"', '"b+"'),
        ("value * FACTOR", "value + FACTOR"),
        ("by=1", "by=2"),
        ("low = 1", "low = 2"),
        ("len(NAMES) +", "len(NAMES) -"),
        ("made(7)", "made(8)"),
        ("limited(3)", "limited(4)"),
    ],
)
def test_another_constant_helper_class_or_bound_is_other_code(was, now):
    assert was in CODE
    assert hash_of() != hash_of(CODE.replace(was, now))


def test_what_another_module_of_the_app_does_belongs_to_it_and_what_nobody_asks_for_does_not():
    assert hash_of() != hash_of(words=WORDS.replace("once", "twice"))
    assert hash_of() == hash_of(words=WORDS.replace("return 1", "return 2"))


def test_another_process_has_the_same_hash():
    code = (
        "from imports import seconds_v3, JourneyV2; from syncengine.migrate.code_in_use import hash_of_code; "
        "step = seconds_v3(); print(hash_of_code([step.function, JourneyV2, {'a', 'b', 'c'}]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path + PLACES)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(said) == 1
    assert "None" not in said.pop()


PLACES = ["tests/integration"]


def test_what_names_too_much_has_no_hash():
    assert hash_of_code([[[number] for number in range(THINGS_MAX)]]) is None
