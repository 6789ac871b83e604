"""Samples files that contradict themselves are refused by their line, pipes and devices at once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.lm_eval import lines, measuring
from forkdiv.lm_eval.files import find
from forkdiv.lm_eval.reading import read_samples
from forkdiv.tasks.own_data.config import ColumnsConfig


def line(doc_id: int, **changes: Any) -> dict[str, Any]:
    """A line as forkdiv exports it: four responses, two of them correct."""
    texts = [f"right {doc_id}", f"also right {doc_id}", f"wrong {doc_id}", f"wrong {doc_id}"]
    outcomes = ["correct", "correct", "wrong", "wrong"]
    settings = {"do_sample": True, "temperature": 1.0, "top_p": 0.9}
    return {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}"},
        "target": "right",
        "arguments": {"gen_args_0": {"arg_0": f"Q {doc_id}", "arg_1": settings}},
        "resps": [texts],
        "filtered_resps": [texts],
        "filter": "none",
        "metrics": ["pass@1", "pass@2"],
        "pass@1": 0.5,
        "pass@2": 5 / 6,
        "verdicts": [{"outcome": outcome, "answer": "x"} for outcome in outcomes],
        "valid_solutions": 2,
    } | changes


def arguments(**settings: Any) -> dict[str, Any]:
    return {"gen_args_0": {"arg_0": "Q 1", "arg_1": {"do_sample": True, **settings}}}


def measured(folder: Path, *rows: dict[str, Any], name: str = "samples_x.jsonl") -> dict[str, Any]:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = load(None, ["eval.bootstrap=100", "eval.k=[1,2]"])
    return measuring.measure(study, [path], []).as_json()


def test_a_file_that_agrees_with_itself_is_measured(tmp_path: Path) -> None:
    (cell,) = (cell for cell in measured(tmp_path, line(0), line(1))["cells"])
    assert cell["pass_at"]["1"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arguments": arguments(temperature=0.2, top_p=0.9)},
            r"with different decoders: .*'temperature': 1.0.* on line 1 .*'temperature': 0.2",
        ),
        ({"arguments": arguments(temperature=1.0)}, r"different decoders: .* on line 2 of"),
        ({"arguments": None}, r"different decoders: .*, \{\} on line 2 of"),
        (
            {"arguments": arguments(temperature="hot")},
            r"line 2 .* impossible temperature: got 'hot'",
        ),
        (
            {"arguments": arguments(temperature=-1)},
            r"line 2 of .* impossible temperature: got '-1'",
        ),
        (
            {"pass@1": 0.75},
            r"verdicts on line 2 of .* contradict the metric pass@1 on it: got pass@1 '0.75', but "
            "2 of 4",
        ),
        ({"pass@2": 0.5}, r"line 2 of .* contradict the metric pass@2"),
        ({"pass@2": None}, r"line 2 of .* contradict the metric pass@2 on it: got pass@2 'None'"),
        ({"valid_solutions": 1}, r"line 2 of .* is impossible: got 1, but 2 different responses"),
        ({"valid_solutions": 0}, r"line 2 of .* impossible number of `valid_solutions`: got '0'"),
        ({"right_answers": "7"}, "`right_answers` that are not a list of texts: got '7'"),
        ({"right_answers": [7]}, "`right_answers` that are not a list of texts"),
        ({"valid_solutions": -3}, "impossible number of `valid_solutions`"),
        ({"valid_solutions": True}, "impossible number of `valid_solutions`: got 'True'"),
        ({"valid_solutions": 2.5}, "impossible number of `valid_solutions`: got '2.5'"),
        ({"valid_solutions": "x" * 9999}, "impossible number of `valid_solutions`: got 'xxx"),
        (
            {"resps": [["\ud800", "a", "b", "c"]]},
            "line 2 of .* an unpaired surrogate in response 1",
        ),
    ],
)
def test_a_contradiction_is_refused_by_its_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        measured(tmp_path, line(0), line(1, **changes))
    assert len(str(refused.value)) < 1200


def test_another_metric_that_contradicts_the_verdicts_is_a_note(tmp_path: Path) -> None:
    rows = [line(at, exact_match=0.0, metrics=["pass@1", "exact_match"]) for at in range(2)]
    assert any(
        note.startswith("the verdicts agree with exact_match,none on 0 of 2 documents; first")
        for note in measured(tmp_path, *rows)["notes"]
    )
    agreeing = measured(tmp_path, line(0), line(1))["notes"]
    assert not any("agree with" in note for note in agreeing)


def test_a_pass_at_k_that_contradicts_the_metric_that_judges_is_a_note(tmp_path: Path) -> None:
    changes = {"acc": [1, 0, 0, 0], "metrics": ["acc", "pass@1"], "verdicts": None}
    notes = measured(tmp_path, line(0, **changes), line(1, **changes))["notes"]
    assert any(note.startswith("the verdicts agree with pass@1,none on 0 of 2") for note in notes)


def test_documents_with_other_numbers_of_solutions_are_not_one_problem(tmp_path: Path) -> None:
    again = line(1, doc={"question": "question 0"}, valid_solutions=3)
    for name, row in (("samples_a.jsonl", line(0)), ("samples_b.jsonl", again)):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    paths = [tmp_path / "samples_a.jsonl", tmp_path / "samples_b.jsonl"]
    with pytest.raises(UserError, match="two different numbers of `valid_solutions`"):
        read_samples(find(paths), ColumnsConfig())


@pytest.mark.parametrize("in_folder", [False, True], ids=["file", "folder"])
def test_a_pipe_or_device_is_refused_at_once(tmp_path: Path, in_folder: bool) -> None:
    os.mkfifo(tmp_path / "samples_pipe.jsonl")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "samples_zero.jsonl").symlink_to("/dev/zero")
    started = time.monotonic()
    for path, kind in (
        (tmp_path / "samples_pipe.jsonl", "a FIFO"),
        (tmp_path / "other" / "samples_zero.jsonl", "a device"),
    ):
        with pytest.raises(UserError, match=f"a samples file cannot be read: got .* is {kind}"):
            read_samples(find([path.parent if in_folder else path]), ColumnsConfig())
    assert time.monotonic() - started < 5


def test_a_line_without_end_is_refused_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 2000)
    with pytest.raises(UserError, match=r"line 2 of .*samples_x\.jsonl is too long"):
        measured(tmp_path, line(0), line(1, target="x" * 9000))
