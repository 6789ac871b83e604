"""Fork-aware fine-tuning as its user runs it: the table by real short runs, training, the audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import stack

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SMALL = (
    "learnability.runs=2",
    "learnability.epochs=1",
    "learnability.rounds=2",
    "learnability.planted=[coin-flips]",
)


def test_a_table_is_made_once_and_read_by_training_and_by_the_audit(tmp_path: Path) -> None:
    made = stack.run("learnability", tmp_path, *SMALL).stdout
    assert "indecipherable" in made and "coin flips" in made
    table = made.split("table: ")[1].split()[0]
    page = Path(made.split("page: ")[1].split()[0])
    assert "left to the base" in page.read_text()
    summary = json.loads((page.parent / "audit.json").read_text())
    assert summary["against_exact"]["learnability"]["recall"]["of"] > 0
    runs = sorted((tmp_path / "store" / "train").iterdir())
    assert len(runs) == 8  # two rounds, data and coin flips
    trained = stack.run("train", tmp_path, *SMALL, "sft.loss=fork-aware").stdout
    assert "epoch 2" in trained
    new = [run for run in (tmp_path / "store" / "train").iterdir() if run not in runs]
    (record,) = (json.loads((run / "record.json").read_text()) for run in new)
    assert record["parents"]["learnability"] in table
    audited = stack.run("audit", tmp_path, f"audit.table={table}").stdout
    assert "cannot be learned as a rule" in audited
