"""MATH-500: 500 competition problems of the MATH test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.benchmarks.base import Benchmark, Item, Wording, label_field, roles, text_field
from forkdiv.benchmarks.registry import register
from forkdiv.core.hub_names import DatasetName

REQUEST = "{problem}\n\nReason step by step, and put the final answer into \\boxed{}."


class Math500(Benchmark):
    """`answer` is the content of the solution's box, in LaTeX."""

    name = "math-500"
    about = "competition problems of MATH; the answer is a formula"
    source = DatasetName(
        "HuggingFaceH4/MATH-500", None, "test", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
    )
    shots = DatasetName(
        "nlile/hendrycks-MATH-benchmark", None, "train"
    )  # MATH without these 500 problems
    rows = (500,)
    columns = roles(
        problem=("problem", "question"),
        answer=("answer",),
        solution=("solution",),
        id=("unique_id",),
    )
    optional = frozenset({"solution", "id"})
    grader = "math"
    stop = ("Problem:",)
    max_new_tokens = 2048
    licence = "MIT"
    link = "https://huggingface.co/datasets/HuggingFaceH4/MATH-500"

    def item(self, fields: Mapping[str, Any], wording: Wording) -> Item:
        return boxed_item(fields, wording, label_field(fields, "answer"))


def boxed_item(fields: Mapping[str, Any], wording: Wording, answer: str) -> Item:
    """Returns a problem whose answer is asked for in a box."""
    problem = text_field(fields, "problem").strip()
    solution = text_field(fields, "solution") if "solution" in fields else None
    id = label_field(fields, "id") if "id" in fields else None
    text = REQUEST if wording == "chat" else "Problem: {problem}\nSolution:"
    return Item(text.replace("{problem}", problem), answer, solution, id)


register(Math500())
