"""Where tokens stand in a text, and which word or line they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from forkdiv.core.config.study import DatasetConfig, PromptConfig
from forkdiv.learnability.spans import token_spans, units
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.stack import BASE

TEXT = "ab cd\n  ef gh"
SPANS = np.array([[0, 1], [1, 2], [2, 5], [5, 6], [6, 8], [8, 10], [10, 13], [13, 13]])


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        ("token", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("word", [0, 0, 1, 1, 1, 2, 3, 4]),
        ("line", [0, 0, 0, 0, 1, 1, 1, 2]),
    ],
)
def test_a_token_belongs_to_the_unit_of_its_first_visible_character(
    unit: str, wanted: list[int]
) -> None:
    assert units(TEXT, SPANS, unit).tolist() == wanted


def test_spans_cut_the_response_into_its_tokens() -> None:
    examples = list(build(GraphBranchingConfig()).sft_examples(DatasetConfig(examples=3)))
    for example, spans in zip(examples, token_spans(examples, BASE, PromptConfig()), strict=True):
        pieces = [example.response[a:b].strip() for a, b in spans]
        assert pieces == [*example.response.split(), ""]
        assert spans[-1].tolist() == [len(example.response)] * 2
