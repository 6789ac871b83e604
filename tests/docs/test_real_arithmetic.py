"""The page of the studies on a real model: its tables are those of the numbers beside it, the
shares in its text occur in them, and its configs are complete."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from forkdiv.core.config.load import load
from forkdiv.tasks.registry import build
from tests.docs.pages import ROOT
from tuning.space import check_data, points

FOLDER = ROOT / "docs/studies"
PAGE = (FOLDER / "real-arithmetic.md").read_text()
NUMBERS = json.loads((FOLDER / "real-arithmetic.json").read_text())


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "write_real_arithmetic", FOLDER / "write_real_arithmetic.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


WRITE = script()
TABLES: dict[str, str] = WRITE.tables(NUMBERS)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_page_are_those_of_the_numbers(name: str) -> None:
    if TABLES[name].count("\n") > 1:  # it has rows
        assert TABLES[name] in PAGE


def test_every_share_in_the_answers_is_in_a_table() -> None:
    answers = PAGE.partition("## Answers")[2].partition("\n## ")[0]
    text = re.sub(r"^\|.*$", "", answers, flags=re.MULTILINE)
    known = set(re.findall(r"−?\d\.\d\d", " ".join(TABLES.values())))
    assert [share for share in re.findall(r"−?\d\.\d\d", text) if share not in known] == []


@pytest.mark.parametrize("config", ["real-arithmetic", "real-modes"])
def test_the_data_and_problems_of_each_study_on_the_page_can_be_made(config: str) -> None:
    for name, (used, *settings) in WRITE.STUDIES.items():
        if used == config:
            place = ["dataset.examples=8", "eval.problems=4", f"name={name}"]
            study = load(Path(used), [*settings, *place, "base=graph-d3-l3"])
            check_data(study)
            task = build(study.task)
            assert len(list(task.sft_examples(study.dataset))) == 8
            assert {point.name for point in points(study)} <= set(WRITE.NAMES)
            problem = task.heldout("test", 4)[0]
            assert all(
                task.verify(problem, trace.text).outcome == "correct"
                for trace in task.solutions(problem)
            )
