"""The text of `forkdiv VERB --help`: the docstring of its job, and the settings it reads."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import forkdiv
from forkdiv.cli.verbs import VERBS

JOBS = Path(forkdiv.__file__).absolute().parents[1] / "jobs"
KEEP_LINES = "\b\n"  # typer joins the lines of a paragraph that does not begin with it

SETTINGS = f"""List every setting: its type, default, unit and meaning.

{KEEP_LINES}    forkdiv settings sft
    forkdiv settings task.file
    forkdiv settings --format markdown"""

BENCHMARKS = f"""List the benchmarks known by name, each with its grader and the source of its data.

{KEEP_LINES}    forkdiv benchmarks
    forkdiv compare --base DIR --tuned DIR --data FILE --as gsm8k"""

CONFIGS = f"""List the named configs, each with its question.

{KEEP_LINES}    forkdiv configs
    forkdiv study --config quickstart"""


def of(verb: str) -> str:
    """What the verb is for, its examples, its details, and the settings that it reads."""
    reads = ", ".join(VERBS[verb].reads)
    tail = f"Settings: {reads}. Show them with forkdiv settings SECTION."
    return "\n\n".join([VERBS[verb].about, *_paragraphs(verb), tail])


def examples(verb: str) -> list[str]:
    """The command lines of the job's docstring."""
    lines = (line.strip() for line in _docstring(verb).splitlines())
    return [line for line in lines if line.startswith(("forkdiv ", "ray job submit", "lm_eval "))]


def _paragraphs(verb: str) -> list[str]:
    """The docstring after its first sentence; examples keep their lines, indented."""
    _, *rest = _docstring(verb).split("\n\n")
    lines = [[line.strip() for line in part.strip().splitlines()] for part in rest]
    return [
        KEEP_LINES + "\n".join(f"    {line}" for line in part)
        if part[0] in examples(verb)
        else " ".join(part)
        for part in lines
    ]


@cache
def _docstring(verb: str) -> str:
    """Read from the file: importing the job would load what only its run needs."""
    return ast.get_docstring(ast.parse((JOBS / f"{verb}.py").read_text(encoding="utf-8"))) or ""
