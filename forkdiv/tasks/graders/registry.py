"""Every grader by its name: is the answer in a model's response the reference answer?

| name | answer read from the response | equal if |
|---|---|---|
| `exact` | all of it, runs of white space as one space | the same text |
| `numeric` | its last number | the same value |
| `boxed` | the last `\\boxed{}` or `\\fbox{}` | the same value, else the same text |
| `hash` | the number on the line of the last `####` | the same value |
| `choice` | the letter A to J that it settles on | the same letter |
| `math` | what math-verify finds | mathematically equivalent |
| `package.module:function` | what the function reads | the function says so |

Case always counts. Values are compared exactly, never as floats. `numeric` takes the last
number since responses end with their answer; one that goes on counting is read wrongly. A
grader that fails raises: it gives no verdict on what it could not judge.

A new grader is a file in this folder and a line in `GRADERS`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from forkdiv.core.config.open_list import OpenList, load_object
from forkdiv.core.errors import refuse
from forkdiv.tasks.graders.base import AnswerGrader
from forkdiv.tasks.graders.function import Function

# name: its class, imported where it is first used
GRADERS = {
    "exact": "forkdiv.tasks.graders.exact:Exact",
    "numeric": "forkdiv.tasks.graders.numeric:Numeric",
    "boxed": "forkdiv.tasks.graders.boxed:Boxed",
    "hash": "forkdiv.tasks.graders.numeric:Hash",
    "choice": "forkdiv.tasks.graders.multiple_choice:Choice",
    "math": "forkdiv.tasks.graders.math:Math",
}
NAMES: OpenList[Any] = OpenList("grader", __name__, "forkdiv.graders")


def build_grader(name: str) -> AnswerGrader:
    """The grader of that name. Raises UserError where there is none."""
    if ":" in name:
        return Function(name)
    if name in NAMES.names():
        grader: AnswerGrader = NAMES.get(name)()
        return grader
    allowed = f"{', '.join(NAMES.names())} or package.module:function"
    raise refuse("there is no such grader", repr(name), allowed, "correct the grader's name")


for _name, _place in GRADERS.items():
    NAMES.register(_name, partial(load_object, _place))
