"""GSM8K: grade-school word problems whose answer is a number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forkdiv.benchmarks.base import (
    Benchmark,
    Item,
    Wording,
    label_field,
    roles,
    text_field,
    unexpected,
)
from forkdiv.benchmarks.registry import register
from forkdiv.core.hub_names import DatasetName

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?%?")
MARK = "####"
REVISION = "e53f048856ff4f594e959d75785d2c2d37b678ee"
REQUEST = (
    "{question}\n\nSolve the problem step by step. Then write the answer, a number, on a last line "
    "that begins with ####."
)


class Gsm8k(Benchmark):
    """`answer` is a worked solution that ends in `#### 18`, or the number alone beside a column
    with the solution, whose #### then counts."""

    name = "gsm8k"
    about = "grade-school word problems; the answer is a number"
    source = DatasetName("openai/gsm8k", "main", "test", REVISION)
    shots = DatasetName("openai/gsm8k", "main", "train", REVISION)
    rows = (1319,)
    columns = roles(question=("question",), answer=("answer",), solution=("solution",))
    optional = frozenset({"solution"})
    grader = "math"
    stop = ("Question:",)
    licence = "MIT"
    link = "https://huggingface.co/datasets/openai/gsm8k"

    def item(self, fields: Mapping[str, Any], wording: Wording) -> Item:
        question, answer = text_field(fields, "question"), label_field(fields, "answer")
        solution = text_field(fields, "solution") if "solution" in fields else None
        if MARK in answer:
            solution = answer
        if solution and MARK in solution:
            answer = solution.rpartition(MARK)[2].strip()
        if not NUMBER.fullmatch(answer):
            raise unexpected("answer", answer, f"a number, or a solution that ends in {MARK} 18")
        text = REQUEST if wording == "chat" else "Question: {question}\nAnswer:"
        return Item(text.replace("{question}", question.strip()), answer, solution)


register(Gsm8k())
