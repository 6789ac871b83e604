"""HumanEval: Python functions to complete, graded by unit tests in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forkdiv.benchmarks.base import Benchmark, Item, Wording, roles, text_field, unexpected
from forkdiv.benchmarks.registry import register
from forkdiv.core.hub_names import DatasetName
from forkdiv.tasks.graders.unit_tests import reference_text

REQUEST = (
    "Complete this Python function. Answer with the whole function and its imports in one block of "
    "code.\n\n```python\n{prompt}\n```"
)
# the line beginnings at which a model that continues the prompt has left the function
STOP = ("\nclass ", "\ndef ", "\n#", "\n@", "\nif ", "\nprint(", "\nassert ", "\n```", "\n<")


class HumanEval(Benchmark):
    """`prompt` is the beginning of a function with its docstring, `test` defines `check`, which is
    called with the function `entry_point`. HumanEval+ has the same form."""

    name = "humaneval"
    about = "Python functions to complete; unit tests decide"
    source = DatasetName(
        "openai/openai_humaneval",
        "openai_humaneval",
        "test",
        "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    )
    rows = (164,)
    columns = roles(
        prompt=("prompt",),
        tests=("test",),
        name=("entry_point",),
        solution=("canonical_solution",),
        id=("task_id",),
    )
    optional = frozenset({"solution", "id"})
    grader = "unit_tests"
    stop = STOP
    licence = "MIT"
    link = "https://huggingface.co/datasets/openai/openai_humaneval"

    def item(self, fields: Mapping[str, Any], wording: Wording) -> Item:
        prompt, tests = text_field(fields, "prompt"), text_field(fields, "tests")
        name = text_field(fields, "name").strip()
        if not re.search(rf"^\s*(?:async\s+)?def\s+{re.escape(name)}\b", prompt, re.MULTILINE):
            raise unexpected("prompt", prompt, f"code that defines {name}, its entry_point")
        if not re.search(r"^\s*def\s+check\b", tests, re.MULTILINE):
            raise unexpected("test", tests, "code that defines the function check")
        answer = reference_text(f"{tests}\n\ncheck({name})\n", prompt, [name])
        solution = text_field(fields, "solution") if "solution" in fields else None
        id = text_field(fields, "id") if "id" in fields else None
        if wording == "text":
            return Item(prompt, answer, solution, id)
        block = f"```python\n{prompt}{solution}\n```" if solution is not None else None
        return Item(REQUEST.replace("{prompt}", prompt.rstrip()), answer, block, id)


register(HumanEval())
