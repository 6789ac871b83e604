"""Code that is graded by unit tests: what counts as the program, and what does not pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from forkdiv.core.records import Outcome
from forkdiv.tasks.graders.unit_tests import UnitTestGrader, reference_text
from forkdiv.tasks.sandbox.run import Limits, Sandbox
from forkdiv.tasks.sandbox.unit_tests import ProgramEnd, UnitTests, run_tests

DOUBLE = reference_text("assert f(2) == 4\nassert f(-3) == -6", "", ["f"])
STUB = 'import math\n\n\ndef f(x):\n    """Twice x.\n\n    >>> f(2)\n    4\n    """\n'
STUBBED = reference_text("assert f(2) == 4\nassert f(-3) == -6", STUB, ["f"])
RIGHT = "def f(x):\n    return 2 * x\n"


@pytest.fixture(scope="module")
def grader() -> UnitTestGrader:
    return UnitTestGrader()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(cpu_s=1.0, wall_s=5.0, memory_mib=256)) as opened:
        yield opened


def test_the_known_cases_have_their_outcomes(grader: UnitTestGrader) -> None:
    for reference, text, outcome in grader.canaries:
        assert grader.grade(reference, text).outcome is outcome, text


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        f"```python\n{RIGHT}```",
        f"```\n{RIGHT}```",
        f"~~~py\n{RIGHT}~~~",
        f"First some words.\n\n```python\n{RIGHT}```\n\nExample:\n\n```python\nprint(f(1))\n```",
        f"```bash\npip install x\n```\n```python\n{RIGHT}```",
        f"```python\nimport math\n```\nthen\n```python\n{RIGHT}```",
        f"```python\n{RIGHT}",
        f"Sure!\n\n{RIGHT}\nThis function doubles its argument.",
        f"{RIGHT}\nassert f(1) == 3",
        f"{RIGHT}\nprint(f(input()))",
        f"FACTOR = 2\n{RIGHT.replace('2', 'FACTOR')}",
        f"{RIGHT}\nif __name__ == '__main__':\n    raise SystemExit",
        "from dataclasses import dataclass\n\n@dataclass\nclass Pair:\n    a: int\n\n"
        "def f(x):\n    print('noise')\n    return Pair(2 * x).a\n",
        "import functools\n\n@functools.lru_cache\ndef f(x):\n    return 2 * x\n",
        "f = lambda x: 2 * x\n",
    ],
)
def test_the_program_of_a_response_is_found(grader: UnitTestGrader, text: str) -> None:
    assert grader.grade(DOUBLE, text).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    "text",
    [
        "    return 2 * x\n",
        "    return 2 * x",
        "   return 2 * x\n",  # a tokenizer dropped the first space
        "    y = 2 * x\n    return y\n\n\ndef g(x):\n    return f(x) + undefined\n\nprint(g(1))\n",
        "    return 2 * x\n\n# Test\nassert f(2) == 5\n",
        "    return 2 * x\n\nThe function doubles x.\n",
        "    return math.floor(2 * x)\n",
        f"```python\n{RIGHT}```",
        f"```python\n{STUB}    return 2 * x\n```",
        "```python\n    return 2 * x\n```",
        f"{STUB}    return 2 * x\n",
        "    def f2(x):\n        return x\n    return f2(x) * 2\n",
    ],
)
def test_a_response_continues_the_prompt_or_repeats_it(grader: UnitTestGrader, text: str) -> None:
    assert grader.grade(STUBBED, text).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("def f(x):\n    return 2 * x + 1\n", ProgramEnd.FAILED),
        ("def f(x):\n    return 1 / 0\n", ProgramEnd.RAISED),
        ("def g(x):\n    return 2 * x\n", ProgramEnd.RAISED),
        ("import sys\nsys.exit(0)\n" + RIGHT, ProgramEnd.EXITED),
        ("def f(x):\n    raise SystemExit\n", ProgramEnd.EXITED),
        ("def f(x):\n    raise SystemExit(3)\n", ProgramEnd.EXITED),
        ("import os\ndef f(x):\n    os._exit(0)\n", ProgramEnd.DENIED),
        ("import os\ndef f(x):\n    os.fork()\n", ProgramEnd.DENIED),
        ("import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n", ProgramEnd.DENIED),
        ("import os\ndef f(x):\n    os.write(3, b'd')\n", ProgramEnd.DENIED),
        ("def f(x):\n    return open('/etc/passwd').read()\n", ProgramEnd.DENIED),
        ("import numpy\n" + RIGHT, ProgramEnd.NO_MODULE),
        ("import socket\n" + RIGHT, ProgramEnd.NO_MODULE),
        ("def f(x):\n    while True:\n        pass\n", ProgramEnd.TIME),
        ("import time\ndef f(x):\n    time.sleep(1000)\n", ProgramEnd.TIME),
        ("def f(x):\n    while True:\n        print('x' * 10_000)\n", ProgramEnd.OUTPUT),
        ("def f(x):\n    return [0] * 10**10\n", ProgramEnd.MEMORY),
        ("This is no code.", ProgramEnd.NO_PROGRAM),
        ("def f(x):\n    return '\0'\n", ProgramEnd.NO_PROGRAM),
        ("def f(x):\n    return " + "(" * 5000 + "1" + ")" * 5000, ProgramEnd.NO_PROGRAM),
        ("def f(x):\n    return '\ud800'\n", ProgramEnd.NO_PROGRAM),
    ],
)
def test_a_program_that_does_not_pass_is_no_failure_of_the_grader(
    sandbox: Sandbox, text: str, end: ProgramEnd
) -> None:
    unit = UnitTests("assert f(2) == 4\nassert f(-3) == -6", ["f"])
    assert run_tests(sandbox, [text], unit) is end


EQUAL = "    def __eq__(self, other): return True\n    def __hash__(self): return 0\n"


@pytest.mark.parametrize(
    "text",
    [
        f"class All:\n{EQUAL}\ndef f(x): return All()\n",
        f"class All(int):\n{EQUAL}\ndef f(x): return All()\n",
        f"class All:\n{EQUAL}\ndef f(x): return [All()]\n",
        f"class Kind(type):\n{EQUAL}\nclass All(metaclass=Kind): pass\ndef f(x): return All\n",
        f"class f:\n    def __init__(self, x): pass\n{EQUAL}\n",
        f"class All:\n{EQUAL}\nclass F:\n    def __call__(self, x): return All()\nf = F()\n",
        "import builtins\nbuiltins.AssertionError = ValueError\ndef f(x): return 0\n",
        "import builtins\nbuiltins.set = lambda x: 0\ndef f(x): return 0\n",
        "set = tuple = list = lambda x: 0\ndef f(x): return 0\n",
        "import math\nmath.isclose = lambda *a: True\ndef f(x): return 0\n",
        "import sys\nsys.settrace(lambda *a: None)\ndef f(x): return 0\n",
        "import atexit, os\natexit.register(lambda: os.write(1, b'x'))\ndef f(x): return 0\n",
        "def check(f): pass\ndef f(x): return 0\n",
        "import __main__\n__main__._restore = __main__._checked = lambda f, c: f\n"
        f"class All:\n{EQUAL}\ndef f(x): return All()\n",
    ],
)
def test_tampering_with_the_tests_does_not_pass(sandbox: Sandbox, text: str) -> None:
    tests = (
        "import math\nassert set([f(2)]) == set([4])\nassert math.isclose(f(3), 6)\n"
        "def check(candidate):\n    assert candidate(5) == 10\ncheck(f)"
    )
    assert run_tests(sandbox, [RIGHT], UnitTests(tests, ["f"])) is ProgramEnd.PASSED
    assert run_tests(sandbox, [text], UnitTests(tests, ["f"])) in (
        ProgramEnd.FAILED,
        ProgramEnd.FORGED,
    )


JUMP = (
    "import sys\ndef skip(frame, event, arg):\n"
    "    if event == 'line' and frame.f_code.co_filename == '<tests>' and frame.f_lineno == 1:\n"
    "        frame.f_lineno = 2\n    return skip\nsys.settrace(skip)\n"
)


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("import math\nmath.isclose = lambda *a: True\n", "__import__('math').isclose(f(3), 6)"),
        ("import builtins\nbuiltins.set = lambda x: 0\n", "set([f(2)]) == set([4])"),
        ("set = lambda x: 0\n", "set([f(2)]) == set([4])"),
        (JUMP, "f(2) == 4"),
    ],
)
def test_what_a_response_replaces_is_not_what_the_tests_see(
    sandbox: Sandbox, text: str, test: str
) -> None:
    unit = UnitTests(f"assert {test}\ndone = True\n", ["f"])
    assert run_tests(sandbox, [f"{text}{RIGHT}"], unit) is ProgramEnd.PASSED
    assert run_tests(sandbox, [f"{text}def f(x):\n    return 0\n"], unit) is ProgramEnd.FAILED


def test_a_tested_function_may_have_the_name_of_a_built_in_one(grader: UnitTestGrader) -> None:
    reference = reference_text("assert sum(1, 2) == 3", "", ["sum"])
    assert grader.grade(reference, "def sum(a, b):\n    return a + b\n").outcome is Outcome.CORRECT


def test_one_program_leaves_nothing_to_the_next(sandbox: Sandbox) -> None:
    unit = UnitTests("assert f(2) == 4", ["f"])
    first = "import math\nmath.four = 4\ndef f(x): return math.four\n"
    assert run_tests(sandbox, [first], unit) is ProgramEnd.PASSED
    second = "import math\ndef f(x): return math.four\n"
    assert run_tests(sandbox, [second], unit) is ProgramEnd.RAISED


@pytest.mark.parametrize("answer", ["4", "[]", "{}", '{"tests": 1, "prompt": "", "names": []}'])
def test_a_reference_of_another_form_is_refused(grader: UnitTestGrader, answer: str) -> None:
    with pytest.raises(ValueError, match="reference"):
        grader.reference(answer)
