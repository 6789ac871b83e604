"""Samples of a base beside those of a tuned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.decoder import KNOBS, lm_eval_name
from forkdiv.core.errors import UserError
from tests.lm_eval.samples_files import GOOD, line, measure, study, written


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
