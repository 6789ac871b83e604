"""Data synthesis on the real stack: one study over its ways, sampled by the engine itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkdiv.data import dataset
from tests import stack

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("repair")
    stack.run(
        "study",
        root,
        "task={degree: 3, length: 3, valid: 2, names: 16}",
        "dataset={examples: 40, fork_density: 1.0, branch_coverage: 1}",
        "sft={epochs: 1, batch_size: 8}",
        "sweep.synthesis=[none, enumerator, samples]",
        "synthesis.samples=16",
    )
    return root, json.loads((root / "micro" / "summary.json").read_text())


def test_every_way_of_synthesis_is_trained_and_evaluated_side_by_side(
    repaired: tuple[Path, dict[str, Any]],
) -> None:
    root, summary = repaired
    assert summary["axes"] == ["synthesis"]
    ways = [cell["synthesis"] for cell in summary["cells"] if cell["subset"] == "all"]
    assert ways == ["none", "enumerator", "samples"]
    assert len(list((root / "store" / "train").glob("*"))) == 3
    assert (root / "micro" / "report.html").is_file()


def test_the_repaired_data_covers_its_forks_with_as_many_examples(
    repaired: tuple[Path, dict[str, Any]],
) -> None:
    cards = {}
    for folder in (repaired[0] / "store" / "synthesis").glob("*"):
        card = dataset.read_card(folder)
        cards[card["synthesis"]["way"]] = card
    assert set(cards) == {"enumerator", "samples"}
    for card in cards.values():
        found = card["synthesis"]
        assert card["examples"] == found["budget"] == found["examples_before"] == 40
        assert found["share_covered_before"] == 0.0
    assert cards["enumerator"]["synthesis"]["share_covered_after"] == 1.0
    drawn = cards["samples"]["synthesis"]
    assert drawn["samples_drawn"] == 40 * 16
    # the base takes a given arm of three at random: 1 of 3 are missing, 16 draws hardly miss it
    assert drawn["share_covered_after"] > 0.9
