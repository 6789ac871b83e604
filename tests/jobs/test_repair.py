"""Data synthesis on the real stack: one study over its ways, sampled by the engine itself."""

from __future__ import annotations

import pytest

from forkdiv.data import dataset
from tests.jobs.conftest import Submitted

pytestmark = pytest.mark.stack


def test_every_way_of_synthesis_is_trained_and_evaluated_side_by_side(
    submitted: Submitted,
) -> None:
    root, summary = submitted.root, submitted.summary
    assert summary["axes"] == ["synthesis"]
    ways = [cell["synthesis"] for cell in summary["cells"] if cell["subset"] == "all"]
    assert ways == ["none", "enumerator", "samples"]
    assert len(list((root / "store" / "train").glob("*"))) == 3
    assert (root / "micro" / "report.html").is_file()


def test_the_repaired_data_covers_its_forks_with_as_many_examples(
    submitted: Submitted,
) -> None:
    cards = {}
    for folder in (submitted.root / "store" / "synthesis").glob("*"):
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
