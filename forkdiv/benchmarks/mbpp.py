"""MBPP: short Python functions that are described in words, graded by unit tests in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forkdiv.benchmarks.base import (
    SHOTS,
    TEST,
    TRAIN,
    Benchmark,
    Item,
    Wording,
    label_field,
    list_field,
    roles,
    text_field,
    unexpected,
)
from forkdiv.benchmarks.registry import register
from forkdiv.core.hub_names import DatasetName
from forkdiv.tasks.graders.unit_tests import reference_text

REVISION = "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
REQUEST = "{text} The function must pass these tests:\n\n```python\n{tests}\n```"
ANSWER_WITH = "\n\nAnswer with the whole function and its imports in one block of code."
# the line beginnings at which a model that continues the prompt has left its program
STOP = ("\nclass ", "\nassert ", '\n"""', "\nprint(", "\nif ", "\n```", "\n<")
# The published file has all splits; the number of a problem says its split.
LAST_SHOT, LAST_TEST = 10, 510
_DEFINED = re.compile(r"^(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)


class Mbpp(Benchmark):
    """Both published layouts: the full one (`text`, `test_setup_code`) and the sanitized one
    (`prompt`, `test_imports`). The tests are part of the prompt, because they name the function."""

    name = "mbpp"
    about = "short Python functions described in words; unit tests decide"
    source = DatasetName("google-research-datasets/mbpp", "full", "test", REVISION)
    shots = DatasetName("google-research-datasets/mbpp", "full", "prompt", REVISION)
    rows = (500, 257)
    columns = roles(
        text=("text", "prompt"),
        tests=("test_list",),
        solution=("code",),
        id=("task_id",),
        setup=("test_setup_code",),
        imports=("test_imports",),
    )
    optional = frozenset({"setup", "imports"})
    grader = "unit_tests"
    stop = STOP
    licence = "CC-BY-4.0"
    link = "https://huggingface.co/datasets/google-research-datasets/mbpp"

    def part(self, fields: Mapping[str, Any]) -> str:
        number = _number(fields)
        if number <= LAST_SHOT:
            return SHOTS
        return TEST if number <= LAST_TEST else TRAIN

    def item(self, fields: Mapping[str, Any], wording: Wording) -> Item:
        text, code = text_field(fields, "text").strip(), text_field(fields, "solution")
        asserts = list_field(fields, "tests")
        tests = "\n".join(asserts)
        if not asserts or not tests.strip():
            raise unexpected("test_list", repr(list(asserts)), "a list of assert statements")
        names = [name for name in _DEFINED.findall(code) if re.search(rf"\b{name}\b", tests)]
        if not names:
            raise unexpected("code", code, "Python that defines the function that test_list calls")
        setup = [fields["setup"]] if fields.get("setup") else list(fields.get("imports") or ())
        answer = reference_text("\n".join([*map(str, setup), tests]), "", names)
        id = f"mbpp/{_number(fields)}"
        if wording == "chat":
            prompt = REQUEST.replace("{text}", text).replace("{tests}", tests) + ANSWER_WITH
            return Item(prompt, answer, f"```python\n{code}\n```", id)
        return Item(f'"""\n{text}\n{tests}\n"""\n', answer, code, id)


def _number(fields: Mapping[str, Any]) -> int:
    number = label_field(fields, "id") if "id" in fields else ""
    if not number.isdecimal():
        raise unexpected("task_id", number, "a whole number")
    return int(number)


register(Mbpp())
