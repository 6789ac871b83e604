"""All graders by name.

| name | answer in the response | equal if |
|---|---|---|
| `exact` | the whole response, white space normalised | the same text |
| `numeric` | its last number | the same value |
| `boxed` | the last `\\boxed{}` or `\\fbox{}` | the same value or items, else the same text |
| `hash` | the number on the line of the last `####` | the same value |
| `choice` | its final choice, a letter from A to J | the same letter |
| `math` | the last box, else the stated answer, formula or number | mathematically equivalent |
| `unit_tests` | its Python code | the tests of the reference pass |
| `package.module:function` | decided by the function | decided by the function |

References and responses are read in the same way; docs/notations.md lists the notations. Values
are compared exactly, never as floats, and words in any case only by `math`. `numeric` takes the
last number because responses usually end with their answer; it misreads a response that continues
with other numbers. A grader that fails raises an exception and gives no verdict.

A new grader is a file in this folder and a line in `GRADERS`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from forkdiv.core.config.open_list import OpenList, load_object
from forkdiv.core.errors import refuse
from forkdiv.tasks.graders.base import AnswerGrader
from forkdiv.tasks.graders.function import Function

# name -> class, imported at its first use
GRADERS = {
    "exact": "forkdiv.tasks.graders.exact:Exact",
    "numeric": "forkdiv.tasks.graders.numeric:Numeric",
    "boxed": "forkdiv.tasks.graders.boxed:Boxed",
    "hash": "forkdiv.tasks.graders.numeric:Hash",
    "choice": "forkdiv.tasks.graders.multiple_choice:Choice",
    "math": "forkdiv.tasks.graders.math:Math",
    "unit_tests": "forkdiv.tasks.graders.unit_tests:UnitTestGrader",
}
NAMES: OpenList[Any] = OpenList("grader", __name__, "forkdiv.graders")


def build_grader(name: str) -> AnswerGrader:
    """Returns the grader with this name. Raises UserError for an unknown name."""
    if ":" in name:
        return Function(name)
    if name in NAMES.names():
        grader: AnswerGrader = NAMES.get(name)()
        return grader
    allowed = f"{', '.join(NAMES.names())} or package.module:function"
    raise refuse("unknown grader", repr(name), allowed, "correct task.grader")


for _name, _place in GRADERS.items():
    NAMES.register(_name, partial(load_object, _place))
