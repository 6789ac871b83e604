"""Who judges the responses of samples files: a metric of theirs, verdicts, or a grader."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.errors import UserError
from tests.lm_eval.samples_files import file_study, line, measure, study, values, written


@pytest.mark.parametrize(
    ("targets", "grader"),
    [
        (["so it is\n#### 3", "hence\n#### 4"], "hash"),
        (["A", "(C)"], "choice"),
        (["12", "7"], "numeric"),
        (["so \\boxed{3}", "\\boxed{x}"], "math"),
        (["so \\boxed{3}", "\\boxed{7A}"], "boxed"),
        (["red", "blue"], "exact"),
    ],
)
def test_the_grader_is_inferred_from_the_references(
    tmp_path: Path, targets: list[str], grader: str
) -> None:
    rows = [line(at, [text, "?"], target=text) for at, text in enumerate(targets)]
    done = measure(study(), [written(tmp_path / "a.jsonl", rows)], [])
    assert done["settings"]["grader"] == grader
    assert values(done) == {"1": 0.5, "2": 1.0}


def test_a_grader_in_the_settings_takes_precedence(tmp_path: Path) -> None:
    rows = [line(0, ["It is 3.", "It is 4."], target="3", metrics=["m"], m=[0, 0])]
    path = written(tmp_path / "a.jsonl", rows)
    assert values(measure(study(), [path], []))["1"] == 0.0
    assert values(measure(file_study("task.grader=numeric"), [path], []))["1"] == 0.5


def test_the_answer_may_be_another_key_of_the_document(tmp_path: Path) -> None:
    rows = [line(0, ["3", "4"], target="The answer is 3", doc={"gold": 3})]
    path = written(tmp_path / "a.jsonl", rows)
    done = measure(file_study("task.columns.answer=gold"), [path], [])
    assert (done["settings"]["grader"], values(done)["1"]) == ("numeric", 0.5)
    with pytest.raises(UserError, match=r"line 1 of .*has no answer: got .*golden.*gold"):
        measure(file_study("task.columns.answer=golden"), [path], [])


def test_a_reference_that_the_grader_cannot_read_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [line(0, ["3"], target="3"), line(1, ["4"], target="four")]
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"numeric cannot read the reference on line 2 .*'four'"):
        measure(file_study("task.grader=numeric"), [path], [])


def test_an_inferred_grader_that_accepts_nothing_is_refused_if_a_metric_does(
    tmp_path: Path,
) -> None:
    kept = {"filtered_resps": [["it is yes, run", "no, run"]]}  # what is judged is not the text
    rows = [line(0, ["it is yes", "no"], metrics=["pass@1"], **{"pass@1": 0.5}, **kept)]
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(
        UserError, match=r"exact .* accepts no response, but the metric pass@1,none does"
    ):
        measure(study(), [path], [])
    done = measure(file_study("task.grader=exact"), [path], [])
    assert values(done)["1"] == 0.0, "a grader in the settings is used if no metric contradicts it"


def test_an_inferred_grader_is_refused_if_the_metric_of_any_filter_contradicts_it(
    tmp_path: Path,
) -> None:
    """As grade-school maths is judged: by the mark, and by the last number whatever its place."""
    told = {"metrics": ["exact_match"], "target": "2 + 1\n#### 3"}
    rows = [
        line(0, ["It is 3.", "It is 4."], **told, filter="strict", exact_match=0.0),
        line(0, ["It is 3.", "It is 4."], **told, filter="flexible", exact_match=1.0),
    ]
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(
        UserError, match=r"hash .* no response, but the metric exact_match,flexible"
    ):
        measure(study(), [path], [])
    done = measure(file_study("task.grader=numeric"), [path], [])
    assert values(done) == {"1": 0.5, "2": 1.0}


def test_the_output_of_filters_is_not_needed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [line(0, ["yes", "no"], filtered_resps=None)])
    assert values(measure(study(), [path], [])) == {"1": 0.5, "2": 1.0}


def test_disagreement_with_the_tools_metric_is_counted(tmp_path: Path) -> None:
    rows = [
        line(at, ["yes", "no"], metrics=["exact_match"], exact_match=value)
        for at, value in enumerate([1.0, 0.0, 1.0])
    ]
    done = measure(study(), [path := written(tmp_path / "a.jsonl", rows)], [])
    (note,) = [note for note in done["notes"] if "agrees" in note]
    assert "on 2 of 3 documents" in note and f"first difference: line 2 of {path}" in note


def test_of_several_metrics_with_verdicts_on_every_sample_one_must_be_chosen(
    tmp_path: Path,
) -> None:
    rows = [line(0, ["a", "b"], metrics=["m", "strict"], m=[1, 1], strict=[1, 0])]
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"got m,none, strict,none.*task\.grader=m,none"):
        measure(study(), [path], [])
    done = measure(file_study("task.grader=strict,none"), [path], [])
    assert values(done)["1"] == 0.5
    with pytest.raises(
        UserError, match=r"no metric .* got task\.grader=loose,none; allowed: m,none, strict,none"
    ):
        measure(file_study("task.grader=loose,none"), [path], [])


def test_a_response_that_the_grader_cannot_judge_makes_the_cells_invalid(tmp_path: Path) -> None:
    grader = "task.grader=tests.lm_eval.test_judges:cannot_judge_b"
    path = written(tmp_path / "a.jsonl", [line(0, ["a", "b"])])
    done = measure(file_study(grader), [path], [])
    (cell,) = done["cells"]
    assert (cell["valid"], cell["errors"], cell["pass_at"]) == (False, 1, {"1": None, "2": None})


def cannot_judge_b(answer: str, text: str) -> bool:
    if text == "b":
        raise RuntimeError("b is beyond me")
    return True
