"""Samples files that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from forkdiv.cli import app
from forkdiv.core.errors import UserError
from forkdiv.lm_eval.lines import read
from tests.lm_eval.samples_files import GOOD, SMALL, line, measure, samples_in, study, written

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
