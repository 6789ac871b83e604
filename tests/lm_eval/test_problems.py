"""Problems of samples files, and their numbers of samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.config import ColumnsConfig
from tests.lm_eval.samples_files import line, measure, samples_in, study, values, written


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
