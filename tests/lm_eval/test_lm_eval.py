"""Interchange with lm-evaluation-harness.

The files in tests/lm_eval/files/ are what lm_eval 0.4.13 wrote for the graph task's problems, from
the shipped base and from the same with thirty times larger logits (`tuned`), as
tests/soak/test_lm_eval.py has it run and `python -m tests.soak.test_lm_eval` writes them anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from forkdiv.cli import app
from forkdiv.core.config.decoder import KNOBS, lm_eval_name
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.coverage.stats import pass_at_k
from forkdiv.lm_eval import measuring
from forkdiv.lm_eval.files import find
from forkdiv.lm_eval.lines import read
from forkdiv.lm_eval.reading import Samples, read_samples
from forkdiv.tasks.own_data.config import ColumnsConfig

ROOT = Path(__file__).parents[2]
REAL = Path(__file__).parent / "files"
SMALL = ["eval.bootstrap=100"]


def real(model: str, task: str) -> Path:
    (path,) = (REAL / model).glob(f"samples_{task}_2*.jsonl")
    return path


def study(*overrides: str) -> StudyConfig:
    return load(None, [*SMALL, *overrides])


def file_study(*overrides: str) -> StudyConfig:
    return study("task.kind=file", *overrides)


def line(doc_id: int, responses: Sequence[str], **changes: Any) -> dict[str, Any]:
    """A line as the tool writes it; a value of None drops its key."""
    row = {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}"},
        "target": "yes",
        "arguments": {"gen_args_0": {"arg_0": f"Q {doc_id}", "arg_1": {"temperature": 0.5}}},
        "resps": [list(responses)],
        "filtered_resps": [responses[0] if responses else ""],
        "filter": "none",
        "metrics": [],
        **changes,
    }
    return {key: value for key, value in row.items() if value is not None}


def written(path: Path, rows: Iterable[Any]) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def samples_in(*paths: Path, columns: ColumnsConfig | None = None) -> Samples:
    return read_samples(find(paths), columns or ColumnsConfig())


def measure(study: StudyConfig, samples: Sequence[Path], base: Sequence[Path]) -> dict[str, Any]:
    """The summary as JSON."""
    return measuring.measure(study, samples, base).as_json()


def values(done: dict[str, Any], part: str = "cells", subset: str = "all") -> dict[str, float]:
    (cell,) = [cell for cell in done[part] if cell["subset"] == subset]
    return {k: band["value"] for k, band in cell["pass_at"].items()}


# --- files written by lm_eval ---


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_samples_written_by_lm_eval_are_counted_as_by_hand(model: str) -> None:
    rows = [json.loads(text) for text in real(model, "graphs").read_text().splitlines()]
    correct = [sum(one == row["target"] for one in row["resps"][0]) for row in rows]
    assert 0 < sum(correct) < 64 and len(rows) == 8
    done = measure(study(), [real(model, "graphs")], [])
    by_hand = pass_at_k(8, np.array(correct)[:, None], [1, 2, 4, 8]).mean(0)
    assert list(values(done).values()) == pytest.approx(list(by_hand))
    assert "the grader agrees with exact_match,none on 8 of 8 documents" in done["notes"]
    assert {cell["subset"] for cell in done["cells"]} == {"signed", "unsigned", "all"}
    assert {cell["temperature"] for cell in done["cells"]} == {1.0}


def test_the_difference_to_the_base_is_that_of_the_files() -> None:
    done = measure(study(), [real("tuned", "graphs")], [real("base", "graphs")])
    tuned, base = values(done), values(done, "base")
    (cell,) = [cell for cell in done["cells"] if cell["subset"] == "all"]
    for k, change in cell["delta_to_base"].items():
        assert change["value"] == pytest.approx(tuned[k] - base[k])
    # the sharper model gives up what it does not prefer
    assert cell["delta_to_base"]["8"]["value"] < 0


def test_lines_under_several_filters_are_one_problem() -> None:
    path = real("tuned", "graphs_filters")
    assert len(path.read_text().splitlines()) == 6
    samples = samples_in(path)
    assert (len(samples.problems), samples.n) == (2, 4)
    done = measure(study(), [path], [])
    assert "the grader agrees with exact_match,first on 2 of 2 documents" in done["notes"]


def test_a_metric_with_a_verdict_on_every_sample_decides() -> None:
    done = measure(study(), [real("tuned", "graphs_each")], [])
    rows = [json.loads(text) for text in real("tuned", "graphs_each").read_text().splitlines()]
    assert values(done)["1"] == pytest.approx(np.mean([row["right"] for row in rows]))
    assert done["settings"]["grader"] == "right,all"


def test_the_metric_decides_for_documents_with_one_sample() -> None:
    done = measure(study(), [real("tuned", "graphs_once")], [])
    assert values(done) == {"1": 0.5}
    assert done["settings"]["grader"] == "exact_match,none"


def test_a_note_reports_that_greedy_samples_are_equal() -> None:
    done = measure(study(), [real("tuned", "graphs_greedy")], [])
    assert any("greedy decoding" in note for note in done["notes"])
    assert {cell["temperature"] for cell in done["cells"]} == {0.0}
    assert not any(
        "greedy" in note for note in measure(study(), [real("tuned", "graphs")], [])["notes"]
    )


def test_answers_after_a_hash_mark_are_read_from_the_named_key() -> None:
    path = real("tuned", "graphs_hash")
    with pytest.raises(UserError, match=r"hash cannot read the reference on line 1 .*columns"):
        measure(study(), [path], [])
    rows = [json.loads(text) for text in path.read_text().splitlines()[:2]]
    by_hand = np.mean([one == row["doc"]["answer"] for row in rows for one in row["resps"][0]])
    done = measure(file_study("task.columns.answer=answer"), [path], [])
    assert values(done)["1"] == pytest.approx(by_hand)
    said = "means computed by lm_eval, after its filters: exact_match,flexible 0.500"
    assert any(said in note and "exact_match,strict 0.000" in note for note in done["notes"])


def test_likelihoods_of_choices_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"line 1 of .*log-likelihoods of answer choices, not samples"
    ):
        samples_in(real("tuned", "graphs_choices"))


def test_the_command_ends_with_a_table_and_a_page(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jobs.coverage", f"place.root={tmp_path}", "name=mine"),
            *("--samples", str(real("tuned", "graphs")), "--base", str(real("base", "graphs"))),
            *SMALL,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    (cell,) = [cell for cell in summary["cells"] if cell["subset"] == "all"]
    change = cell["delta_to_base"]["8"]["value"]
    assert f"{change:.3f}".replace("-", "−") in done.stdout
    assert "pass@8" in (tmp_path / "mine" / "report.html").read_text()


def test_without_samples_nothing_is_measured(tmp_path: Path) -> None:
    from jobs.coverage import run

    with pytest.raises(UserError, match="--samples"):
        run(study(f"place.root={tmp_path}"))


# --- which files ---


def test_the_newest_file_of_every_task_in_a_folder_is_read(tmp_path: Path) -> None:
    for task, date in (("a_b", "2026-01-02"), ("a_b", "2026-01-10"), ("c", "2025-03-01")):
        written(tmp_path / f"samples_{task}_{date}T00-00-00.1.jsonl", [line(0, ["yes"])])
    (tmp_path / "results_2026-01-10T00-00-00.1.json").write_text("{}")
    found = find([tmp_path])
    assert [(one.task, one.date[:10]) for one in found] == [
        ("a_b", "2026-01-10"),
        ("c", "2025-03-01"),
    ]


def test_the_output_folder_of_one_model_is_found_inside(tmp_path: Path) -> None:
    shutil.copytree(REAL / "base", tmp_path / "base")
    assert {one.task for one in find([tmp_path])} == {"graphs", "graphs_each"}
    shutil.copytree(REAL / "tuned", tmp_path / "tuned")
    with pytest.raises(UserError, match=r"several models: got 2 .*base, tuned"):
        find([tmp_path])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("results_2026-01-10T00-00-00.1.json", "a results file contains no samples"),
        ("nowhere.jsonl", "the samples path does not exist"),
        ("empty", "a folder contains no samples"),
    ],
)
def test_a_path_without_samples_is_refused(tmp_path: Path, name: str, wrong: str) -> None:
    (tmp_path / "results_2026-01-10T00-00-00.1.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=wrong):
        find([tmp_path / name])


def test_a_file_listed_twice_is_refused() -> None:
    with pytest.raises(UserError, match="listed twice"):
        find([real("base", "graphs"), real("base", "graphs")])


def test_tasks_of_one_folder_are_subsets_of_the_problems(tmp_path: Path) -> None:
    for task, right_ones in (("easy", 4), ("hard", 1)):
        texts = ["yes"] * right_ones + ["no"] * (4 - right_ones)
        rows = [line(at, texts, doc={"question": f"{task} {at}"}) for at in range(3)]
        written(tmp_path / f"samples_{task}_2026-01-01T00-00-00.1.jsonl", rows)
    done = measure(study(), [tmp_path], [])
    assert values(done, subset="easy")["1"] == 1.0
    assert values(done, subset="hard")["1"] == pytest.approx(0.25)
    assert values(done)["1"] == pytest.approx(0.625)


# --- problems and their number of samples ---


def test_runs_of_one_task_are_combined(tmp_path: Path) -> None:
    first = written(tmp_path / "a.jsonl", [line(0, ["yes", "no"]), line(1, ["no", "no"])])
    second = written(tmp_path / "b.jsonl", [line(1, ["no", "yes"]), line(0, ["no", "no"])])
    done = measure(study(), [first, second], [])
    assert done["cells"][0]["n_samples"] == 4
    assert values(done) == pytest.approx({"1": 0.25, "2": 0.5, "4": 1.0})


def test_a_run_repeated_with_the_same_seed_is_refused(tmp_path: Path) -> None:
    rows = [line(0, ["yes", "no"]), line(1, ["no", "no"])]
    paths = [written(tmp_path / name, rows) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(UserError, match=r"a\.jsonl and .*b\.jsonl.*--seed"):
        samples_in(*paths)


def test_files_of_different_decoders_are_not_combined(tmp_path: Path) -> None:
    hot = {"gen_args_0": {"arg_0": "Q", "arg_1": {"temperature": 1.5}}}
    first = written(tmp_path / "a.jsonl", [line(0, ["yes", "no"])])
    second = written(tmp_path / "b.jsonl", [line(0, ["no", "no"], arguments=hot)])
    with pytest.raises(UserError, match=r"0\.5.*1\.5"):
        samples_in(first, second)


def test_equal_documents_of_one_file_are_separate_problems(tmp_path: Path) -> None:
    docs = [{"question": text} for text in ("a", "b", "a")]
    rows = [line(at, ["yes", "no"], doc=doc) for at, doc in enumerate(docs)]
    samples = samples_in(written(tmp_path / "a.jsonl", rows))
    assert (len(samples.problems), samples.n) == (3, 2)


def test_problems_have_the_ids_of_their_documents_if_each_has_one(tmp_path: Path) -> None:
    rows = [line(at, ["yes"], doc={"id": f"p{at}", "level": f"L{at % 2}"}) for at in range(4)]
    path = written(tmp_path / "a.jsonl", rows)
    samples = samples_in(path, columns=ColumnsConfig(subset="level"))
    assert [one.id for one in samples.problems] == ["p0", "p1", "p2", "p3"]
    assert [one.subset for one in samples.problems] == ["L0", "L1", "L0", "L1"]
    same = [line(at, ["yes"], doc={"id": "p", "q": at}) for at in range(2)]
    numbered = samples_in(written(tmp_path / "b.jsonl", same))
    assert [one.id for one in numbered.problems] == ["0", "1"]


def test_files_of_earlier_releases_are_read(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": at,
            "doc": {"q": at},
            "target": at,
            "arguments": [[f"Q {at}", {"do_sample": True, "temperature": 0.7}]],
            "resps": [[str(at), "x"]],
            "filtered_resps": [str(at)],
            "exact_match": 1.0,
        }
        for at in range(2)
    ]
    done = measure(study(), [written(tmp_path / "a.jsonl", rows)], [])
    assert values(done) == {"1": 0.5, "2": 1.0}
    assert done["cells"][0]["temperature"] == 0.7
    assert "the grader agrees with exact_match,none on 2 of 2 documents" in done["notes"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_only_the_first_samples_are_counted_if_eval_samples_is_lower(
    tmp_path: Path, number: int
) -> None:
    path = written(tmp_path / "a.jsonl", [line(0, ["yes", "no", "no"])])
    done = measure(study(f"eval.samples={number}"), [path], [])
    assert values(done)["1"] == pytest.approx(1 / number)


# --- bad input ---

GOOD = line(0, ["yes", "no"])

BAD_LINES: dict[str, tuple[list[Any], str]] = {
    "not JSON": ([GOOD, '{"doc_id": 1, "resps'], r"line 2 of .* is not JSON"),
    "no object": ([GOOD, "[1]"], "line 2 of .* is not a JSON object"),
    "no resps": ([line(0, ["yes"], resps=None)], "line 1 of .* lacks 'resps'"),
    "no target": ([GOOD, line(1, ["a", "b"], target=None)], "line 2 of .* lacks 'target'"),
    "neither": ([{"doc_id": 3}], "lacks 'target' and 'resps'"),
    "a name for a number": ([{**GOOD, "doc_id": "x"}], "line 1 of .*`doc_id`"),
    "several references": ([line(0, ["yes"], target=["a"])], "target that is not text"),
    "no answer came": ([line(0, ["yes"], resps=[["a", None]])], "response 2 is 'None'"),
    "no response": ([line(0, [])], "no response"),
    "no list": ([line(0, ["yes"], resps="yes")], "`resps` that is not a list of lists"),
    "choices": ([line(0, ["yes"], resps=[["a"], ["b"]])], "likelihoods"),
    "nothing": ([], "is empty"),
    "twice": ([GOOD, GOOD], r"document 0 occurs twice: got line 1 of .* and line 2 of"),
    "other responses": (
        [GOOD, line(0, ["no", "no"], filter="last")],
        r"have different responses: got line 1 .* line 2",
    ),
    "cut short": (
        [GOOD, line(1, ["a", "b"]), line(0, ["yes", "no"], filter="last")],
        r"document 1 has no line for a filter .* line 2 of .* without last",
    ),
    "other numbers": (
        [GOOD, line(1, ["yes", "no"]), line(2, ["yes"])],
        r"different numbers of samples: got 2 for 2 problems, but 1 for 1: document 2 \(line 3 of",
    ),
    "the name of all": (
        [line(0, ["yes"], doc={"subset": "all"})],
        "line 1 of .* has the reserved subset name 'all'",
    ),
    "no verdict for each": ([line(0, ["a", "b"], verdicts=[{}])], "got 1 for 2 responses"),
    "a verdict of no kind": ([line(0, ["a"], verdicts=[{"outcome": "fine"}])], "malformed verdict"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    rows, wrong = BAD_LINES[case]
    with pytest.raises(UserError, match=wrong) as refused:
        samples_in(written(tmp_path / "a.jsonl", rows))
    assert str(tmp_path / "a.jsonl") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "base", "wrong"),
    [
        ([GOOD, '{"doc_id": 1, "resps'], None, "line 2 of"),
        ([], None, "samples file is empty"),
        ([GOOD, GOOD], None, "document 0 occurs twice"),
        ([GOOD, line(1, ["a", "b"])], [GOOD], "1 not in both: line 2 of"),
        (None, None, "folder contains no samples"),
    ],
)
def test_the_command_refuses_bad_files_in_one_line(
    tmp_path: Path, rows: list[Any] | None, base: list[Any] | None, wrong: str
) -> None:
    path = tmp_path / "t.jsonl"
    given = ["--samples", str(written(path, rows) if rows is not None else tmp_path)]
    given += ["--base", str(written(tmp_path / "b.jsonl", base))] if base is not None else []
    done = CliRunner().invoke(app, ["coverage", f"place.root={tmp_path / 'runs'}", *SMALL, *given])
    assert done.exit_code == 2
    assert wrong in done.stderr and len(done.stderr.splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.dictionaries(st.sampled_from([*GOOD, "verdicts", "exact_match"]), JSON))
def test_any_line_is_read_or_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path / "a.jsonl", [{**GOOD, **changes}])
    try:
        (found,) = read(path)
    except UserError:
        return
    assert found.responses and all(isinstance(one, str) for one in found.responses)
    assert isinstance(found.target, str) and isinstance(found.prompt, str)
    for name in found.metrics:
        judged = found.per_sample(name)
        assert judged is None or len(judged) == len(found.responses)


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_and_never_crash(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError):
        list(read(path))


@pytest.mark.parametrize("setting", ["eval.samples=3", "eval.k=[1,3]"])
def test_more_samples_than_the_files_have_are_refused(tmp_path: Path, setting: str) -> None:
    path = written(tmp_path / "a.jsonl", [GOOD])
    with pytest.raises(UserError, match=r"exceeds the number of samples.*got 3, with 2 samples in"):
        measure(study(setting), [path], [])


# --- base and tuned ---


def test_the_base_is_matched_by_problem_in_any_order(tmp_path: Path) -> None:
    tuned = written(tmp_path / "t.jsonl", [line(0, ["yes", "yes"]), line(1, ["no", "no"])])
    rows = [line(0, ["no", "no"]), line(1, ["yes", "yes"])]
    swapped = [{**rows[1], "doc_id": 0}, {**rows[0], "doc_id": 1}]
    for base in (rows, rows[::-1], swapped):
        done = measure(study(), [tuned], [written(tmp_path / "b.jsonl", base)])
        change = done["cells"][0]["delta_to_base"]["1"]
        assert change["value"] == 0 and change["low"] < -0.5 and change["high"] > 0.5
    tuned_again = measure(study(), [tuned], [tuned])["cells"][0]["delta_to_base"]["1"]
    spread, none = (one["high"] - one["low"] for one in (change, tuned_again))
    assert none <= spread, "one problem gained and one lost is no narrower than no change"


BAD_BASES: dict[str, tuple[list[Any], str]] = {
    "fewer": ([GOOD], r"different problems: got 1 not in both: line 2 of .*t\.jsonl"),
    "more": (
        [GOOD, line(1, ["a", "b"]), line(7, ["a", "b"])],
        r"1 not in both: line 3 of .*b\.jsonl",
    ),
    "others": (
        [line(at, ["yes"], doc={"other": at}) for at in range(2)],
        "no problem in common",
    ),
    "another reference": (
        [GOOD, line(1, ["a", "b"], target="maybe")],
        r"different references .*'yes' \(line 2 of .*t\.jsonl\), 'maybe' \(line 2 of .*b\.jsonl\)",
    ),
}


@pytest.mark.parametrize("case", BAD_BASES)
def test_a_base_with_different_problems_is_refused(tmp_path: Path, case: str) -> None:
    rows, wrong = BAD_BASES[case]
    tuned = written(tmp_path / "t.jsonl", [GOOD, line(1, ["yes", "no"])])
    with pytest.raises(UserError, match=wrong):
        measure(study(), [tuned], [written(tmp_path / "b.jsonl", rows)])


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if knob.shapes])
def test_every_setting_of_the_decoder_that_shapes_samples_is_compared(
    tmp_path: Path, name: str
) -> None:
    def asked(value: float) -> dict[str, Any]:
        return {"gen_args_0": {"arg_0": "prompt", "arg_1": {lm_eval_name(name): value}}}

    paths = [
        written(tmp_path / f"{at}.jsonl", [line(0, ["yes", "no"], arguments=asked(at))])
        for at in (1, 2)
    ]
    notes = " | ".join(measure(study(), paths[:1], paths[1:])["notes"])
    assert (
        f"sampled with different decoders: {{'{name}': 1}} for tuned, {{'{name}': 2}} for base"
        in notes
    )


def test_notes_warn_of_differences_between_base_and_tuned(tmp_path: Path) -> None:
    hot = {"gen_args_0": {"arg_0": "another prompt", "arg_1": {"temperature": 1.5}}}
    tuned = written(tmp_path / "t.jsonl", [line(0, ["yes", "no", "no"])])
    base = written(tmp_path / "b.jsonl", [line(0, ["yes", "no"], arguments=hot)])
    said = " | ".join(measure(study(), [tuned], [base])["notes"])
    assert (
        "sampled with different decoders: {'temperature': 0.5} for tuned, "
        "{'temperature': 1.5} for base" in said
    )
    assert "different prompts for 1 of 1 problems" in said
    assert "the first 2 of each are compared" in said
    same = measure(
        study(), [tuned], [written(tmp_path / "c.jsonl", [line(0, ["yes", "no", "no"])])]
    )
    assert any("two different models" in note for note in same["notes"])


# --- judges ---


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
    grader = "task.grader=tests.lm_eval.test_lm_eval:cannot_judge_b"
    path = written(tmp_path / "a.jsonl", [line(0, ["a", "b"])])
    done = measure(file_study(grader), [path], [])
    (cell,) = done["cells"]
    assert (cell["valid"], cell["errors"], cell["pass_at"]) == (False, 1, {"1": None, "2": None})


def cannot_judge_b(answer: str, text: str) -> bool:
    if text == "b":
        raise RuntimeError("b is beyond me")
    return True
