"""AIME 2024: the 30 problems of the American Invitational Mathematics Examination I and II."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forkdiv.benchmarks.base import Benchmark, Item, Wording, label_field, roles, unexpected
from forkdiv.benchmarks.math_500 import boxed_item
from forkdiv.benchmarks.registry import register
from forkdiv.core.hub_names import DatasetName

ANSWER = re.compile(r"\d{1,3}")


class Aime(Benchmark):
    """The answer is a whole number from 0 to 999."""

    rows = (30,)
    columns = roles(
        problem=("problem", "question"),
        answer=("answer",),
        solution=("solution",),
    )
    optional = frozenset({"solution"})
    grader = "math"
    stop = ("Problem:",)
    max_new_tokens = 8192

    def item(self, fields: Mapping[str, Any], wording: Wording) -> Item:
        answer = label_field(fields, "answer")
        if not ANSWER.fullmatch(answer):
            raise unexpected("answer", answer, "a whole number from 0 to 999")
        return boxed_item(fields, wording, answer.lstrip("0") or "0")


class Aime24(Aime):
    name = "aime24"
    about = "AIME 2024 I and II; the answer is a whole number up to 999"
    source = DatasetName(
        "Maxwell-Jia/AIME_2024", None, "train", "8d88b2876a82a080e2f172cc9b25d0d9d2cb4792"
    )
    licence = "MIT"
    link = "https://huggingface.co/datasets/Maxwell-Jia/AIME_2024"


register(Aime24())
