"""Data synthesis: every fork covered, within the budget, by solutions that are right and new."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DatasetConfig, StudyConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.progress import Progress
from forkdiv.core.records import Example, Outcome
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.forks import synthesis
from forkdiv.forks.gaps import problem_of
from forkdiv.forks.synthesis import SynthesisReport, repair
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.registry import build
from tests.fakes import ContinuingSampler
from tests.graph_prompts import seen

BASE = Checkpoint(Path("nowhere"), "b" * 32)
TWO = ("task.valid=2", "dataset.examples=40")
THREE = ("task={degree: 4, valid: 3, names: 20}", "dataset.examples=42")
ROW = ("task={forks: 2, valid: 2, names: 24}", "dataset.examples=40")
SETTINGS = [TWO, THREE, ROW]


def study(way: str, *overrides: str) -> StudyConfig:
    return load(None, [*overrides, f"dataset.synthesis={way}"])


@cache
def _rows(task: TaskConfig, data: DatasetConfig) -> tuple[Example, ...]:
    return tuple(build(task).sft_examples(data))


def rows(config: StudyConfig) -> list[Example]:
    return list(_rows(config.task, config.dataset))


def enumerated(*overrides: str) -> tuple[list[Example], list[Example], dict[str, Any]]:
    """The data before and after listed solutions were added, and the report."""
    config = study("enumerator", *overrides)
    return rows(config), *repaired(config, None, Path("unused"))


def repaired(
    config: StudyConfig, sampler: ContinuingSampler | None, folder: Path
) -> tuple[list[Example], dict[str, Any]]:
    progress = Progress(folder / "progress.jsonl")
    kept, report = repair(config, build(config.task), rows(config), BASE, sampler, progress)
    assert isinstance(report, SynthesisReport)
    return kept, report.as_json()


def covered(examples: Iterable[Example]) -> tuple[int, int]:
    """Forks that a forward response meets, and those of them at which every right branch is
    shown for the problem; read off the texts alone."""
    taken: dict[str, dict[str, set[str]]] = {}
    prompts = {}
    for row in examples:
        prompts[row.problem_id] = seen(row.prompt)
        words = row.response.split()
        if row.mode != "forward":
            continue
        shown = taken.setdefault(row.problem_id, {})
        for node in prompts[row.problem_id].forks:
            shown.setdefault(node, set()).add(words[words.index(node) + 1])
    forks = [
        branches == set(prompts[problem].right(node))
        for problem, shown in taken.items()
        for node, branches in shown.items()
    ]
    return len(forks), sum(forks)


def assert_sound(config: StudyConfig, before: Sequence[Example], after: Sequence[Example]) -> None:
    """Every row is right, whole, said once, and beside the others of its problem."""
    task = build(config.task)
    assert len({(row.problem_id, row.response) for row in after}) == len(after)
    at = [row.problem_id for row in after]
    assert len(set(at)) == sum(one != two for one, two in zip(at, [None, *at], strict=False))
    assert set(at) <= {row.problem_id for row in before}
    for row in after:
        problem = problem_of(row)
        verdict = task.verify(problem, row.response)
        assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, row.mode)
        forks = task.forks(problem, row.response) or []
        unsigned = sum(not fork.signed for fork in forks)
        assert (row.forks, row.unsigned_forks) == (len(forks), unsigned)


# --- listed solutions ---------------------------------------------------------------------------


@pytest.mark.parametrize(("overrides", "no_room"), [(TWO, 0), (THREE, 0), (ROW, 2)], ids=str)
def test_listed_solutions_cover_every_fork_with_the_same_number_of_examples(
    overrides: tuple[str, ...], no_room: int
) -> None:
    before, after, report = enumerated(*overrides)
    assert_sound(study("enumerator", *overrides), before, after)
    assert len(after) == len(before) == report["examples_after"] == report["examples_before"]
    problems = len({row.problem_id for row in after})
    assert problems == report["problems_after"] < report["problems_before"] == len(before)
    assert report["share_covered_before"] == 0
    forks, there = covered(after)
    assert forks - there <= no_room, "of one problem that fills the rest as it was"
    assert report["share_covered_after"] == pytest.approx(there / forks, abs=1e-6)


@pytest.mark.parametrize("overrides", SETTINGS, ids=str)
def test_with_a_larger_budget_nothing_is_dropped_and_every_fork_is_covered(
    overrides: tuple[str, ...],
) -> None:
    before, after, report = enumerated(*overrides, "synthesis.budget=1000")
    assert_sound(study("enumerator", *overrides), before, after)
    assert set(before) < set(after)
    assert len(after) == len(before) + report["examples_added"] == report["examples_after"] < 1000
    assert report["problems_after"] == report["problems_before"]
    assert covered(after) == (report["forks_after"], report["forks_before"])
    assert report["share_covered_after"] == 1


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(SETTINGS),
    st.integers(1, 130),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_budget_is_never_exceeded_and_the_report_is_right(
    overrides: tuple[str, ...], budget: int, seed: int, direction: float
) -> None:
    knobs = (f"synthesis.budget={budget}", f"synthesis.seed={seed}")
    before, after, report = enumerated(*overrides, *knobs, f"dataset.direction={direction}")
    assert len(after) == report["examples_after"] <= budget == report["budget"]
    assert report["examples_before"] == len(before)
    assert report["examples_added"] == len(set(after) - set(before))
    assert report["problems_after"] == len({row.problem_id for row in after})
    for examples, when in ((before, "before"), (after, "after")):
        forks, there = covered(examples)
        assert report[f"forks_{when}"] == forks
        share = report[f"share_covered_{when}"]
        assert share == (pytest.approx(there / forks, abs=1e-6) if forks else None)
    # a repaired problem has at most 4 examples: with more room left, every problem is repaired
    if len(after) + 4 <= budget:
        assert covered(after)[0] == covered(after)[1] and set(before) <= set(after)


@pytest.mark.parametrize("overrides", [TWO, ROW], ids=str)
def test_data_with_every_branch_is_unchanged(overrides: tuple[str, ...]) -> None:
    before, after, report = enumerated(*overrides, "dataset.branch_coverage=2")
    assert before == after
    assert report["share_covered_before"] == report["share_covered_after"] == 1
    assert report["examples_added"] == 0


def test_data_without_forks_is_unchanged_and_has_no_share() -> None:
    before, after, report = enumerated(*TWO, "dataset.direction=0.0")
    assert before == after
    assert (report["forks_before"], report["share_covered_before"]) == (0, None)
    assert (report["forks_after"], report["share_covered_after"]) == (0, None)


def test_reversed_responses_are_kept_by_the_repair() -> None:
    before, after, _ = enumerated(*TWO, "dataset.direction=0.5", "synthesis.budget=1000")
    assert {row for row in after if row.mode == "reverse"} == {
        row for row in before if row.mode == "reverse"
    }


def test_dropped_problems_depend_on_the_seed() -> None:
    _, first, _ = enumerated(*TWO)
    _, again, _ = enumerated(*TWO)
    _, other, _ = enumerated(*TWO, "synthesis.seed=1")
    assert first == again
    assert {row.problem_id for row in first} != {row.problem_id for row in other}


# --- samples ------------------------------------------------------------------------------------


def sampled(
    folder: Path, *overrides: str, **how: Any
) -> tuple[list[Example], dict[str, Any], ContinuingSampler]:
    config = study("samples", *overrides)
    sampler = ContinuingSampler(config.task, **how)
    return *repaired(config, sampler, folder), sampler


@pytest.mark.parametrize("overrides", SETTINGS, ids=str)
def test_only_correct_samples_with_new_branches_are_added(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = study("samples", *overrides)
    after, report, sampler = sampled(tmp_path, *overrides, "synthesis.budget=1000")
    before = rows(config)
    assert_sound(config, before, after)
    assert set(before) < set(after)
    assert report["samples_drawn"] == 16 * len(sampler.asked)
    assert 0 < report["samples_accepted"] < report["samples_drawn"]
    assert 0 < report["examples_added"] <= report["samples_accepted"]
    assert covered(before)[1] == 0 < covered(after)[1]
    assert report["share_covered_after"] == pytest.approx(
        covered(after)[1] / covered(after)[0], abs=1e-6
    )
    for problem in {row.problem_id for row in after}:
        mine = [row for row in after if row.problem_id == problem]
        prompt = seen(mine[0].prompt)
        for at, extra in enumerate(mine):
            others = [row.response.split() for row in mine[:at]]
            words = extra.response.split()
            assert any(
                words[words.index(node) + 1] not in {one[one.index(node) + 1] for one in others}
                for node in prompt.forks
            ), "each shows a branch that no response before it shows"


def test_requests_continue_from_the_fork(tmp_path: Path) -> None:
    _, _, sampler = sampled(tmp_path, *ROW, "synthesis.samples=3", "synthesis.temperature=0.7")
    before = {row.problem_id: row for row in rows(study("samples", *ROW))}
    assert len(sampler.asked) == 2 * len(before)
    for request in sampler.asked:
        row, prompt = before[request.problem.id], seen(request.problem.prompt)
        words = request.prefix.split()
        assert request.prefix == " ".join(words) and row.response.startswith(f"{request.prefix} ")
        assert words[-1] in prompt.forks
    seeds = [request.seed + i for request in sampler.asked for i in range(request.n)]
    assert len(seeds) == len(set(seeds)) == 3 * len(sampler.asked)
    assert [one.temperature for one in sampler.decoders] == [0.7]


def test_sampled_repairs_keep_the_number_of_examples(tmp_path: Path) -> None:
    after, report, _ = sampled(tmp_path, *TWO, chance=1.0)
    assert len(after) == 40 == report["budget"] == report["examples_after"]
    assert report["problems_after"] == 20 and report["share_covered_after"] == 1


def test_wrong_samples_change_nothing(tmp_path: Path) -> None:
    after, report, _ = sampled(tmp_path, *TWO, chance=0.0)
    assert after == rows(study("samples", *TWO))
    assert (report["samples_accepted"], report["examples_added"]) == (0, 0)
    assert report["samples_drawn"] == 16 * 40


def test_the_order_in_which_answers_come_changes_nothing(tmp_path: Path) -> None:
    first, again, mixed = (
        sampled(tmp_path, *ROW, shuffled=shuffled)[:2] for shuffled in (False, False, True)
    )
    assert first == again == mixed


def test_complete_data_draws_no_samples(tmp_path: Path) -> None:
    _, report, sampler = sampled(tmp_path, *TWO, "dataset.branch_coverage=2")
    assert (sampler.asked, report["samples_drawn"]) == ([], 0)


def test_a_failed_request_ends_the_repair(tmp_path: Path) -> None:
    unlucky = rows(study("samples", *TWO))[7].problem_id
    with pytest.raises(InvalidResult, match="sampling for synthesis failed: the replica is gone"):
        sampled(tmp_path, *TWO, fails=lambda request: request.problem.id == unlucky)


def test_an_answer_with_too_few_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidResult):
        sampled(tmp_path, *TWO, short=1)


RAISING = """
from forkdiv.score import grader_process
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.tasks.registry import build

class Raising:
    def __init__(self, task):
        self.task = task

    def verify(self, problem, text):
        raise ZeroDivisionError("the verifier has a bug")

grader_process.build = lambda config: Raising(build(config))
grader_process._serve_verdicts()
"""


def test_a_sample_without_a_verdict_ends_the_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "raising.py"
    script.write_text(RAISING)
    # the command is Grader's default argument: what synthesis starts
    monkeypatch.setattr(
        Grader.__init__, "__defaults__", (30.0, (sys.executable, str(script)), None)
    )
    with pytest.raises(InvalidResult, match=r"grader failed on a sample .*: ZeroDivisionError"):
        sampled(tmp_path, *TWO)


# --- as artifacts -------------------------------------------------------------------------------


def obtained(store: Store, config: StudyConfig, sampler: ContinuingSampler | None = None) -> Any:
    data = dataset.obtain_sft(store, build(config.task), config.dataset)
    progress = Progress(store.root / "progress.jsonl")
    return data, synthesis.obtain(store, config, build(config.task), data, BASE, sampler, progress)


def test_without_synthesis_the_data_is_unchanged(tmp_path: Path) -> None:
    data, same = obtained(Store(tmp_path), study("none", *TWO))
    assert same == data


@pytest.mark.parametrize("way", ["enumerator", "samples"])
def test_repaired_data_is_published_once_with_a_report_in_its_card(
    tmp_path: Path, way: str
) -> None:
    store, config = Store(tmp_path), study(way, *TWO)
    sampler = ContinuingSampler(config.task)
    data, made = obtained(store, config, sampler)
    card, after = dataset.read_card(made.path), dataset.read(made.path)
    assert card["synthesis"]["way"] == way
    assert card["examples"] == len(after) == card["synthesis"]["examples_after"] == 40
    assert card["distinct_problems"] == card["synthesis"]["problems_after"]
    assert card["fingerprint"] == made.fingerprint != data.fingerprint
    kept, report = repaired(config, ContinuingSampler(config.task), tmp_path)
    assert after == kept and card["synthesis"] == {"way": way, **report}
    asked = len(sampler.asked)
    assert obtained(store, config, sampler) == (data, made)
    assert len(sampler.asked) == asked, "nothing is drawn again"


def test_a_failed_repair_is_not_published(tmp_path: Path) -> None:
    store, config = Store(tmp_path), study("samples", *TWO)
    with pytest.raises(InvalidResult):
        obtained(store, config, ContinuingSampler(config.task, fails=lambda request: True))
    assert list((tmp_path / "synthesis").iterdir()) == []
    data, made = obtained(store, config, ContinuingSampler(config.task))
    assert made.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("override", "ways"),
    [
        ("synthesis.budget=30", {"enumerator", "samples"}),
        ("synthesis.seed=1", {"enumerator", "samples"}),
        ("synthesis.samples=8", {"samples"}),
        ("synthesis.temperature=0.7", {"samples"}),
        ("synthesis.max_new_tokens=9", {"samples"}),
        ("prompt.template=plain", {"samples"}),
        ("place.workers=1", set()),
        ("sft.epochs=9", set()),
    ],
)
def test_settings_that_decide_a_repair_are_part_of_its_identity(
    override: str, ways: set[str]
) -> None:
    for way in ("enumerator", "samples"):
        plain = synthesis.identity(study(way, *TWO), "data", "base").fingerprint
        other = synthesis.identity(study(way, *TWO, override), "data", "base").fingerprint
        assert (other != plain) == (way in ways)


def test_only_samples_depend_on_the_base_and_both_on_the_data() -> None:
    for way in ("enumerator", "samples"):
        plain, base, data = (
            synthesis.identity(study(way, *TWO), data, base).fingerprint
            for data, base in (("d", "b"), ("d", "c"), ("e", "b"))
        )
        assert (base != plain) == (way == "samples")
        assert data != plain


def test_a_task_that_cannot_list_its_solutions_has_no_enumerator() -> None:
    task = build(load(None, ["task={kind: counterfactual_arithmetic}"]).task)
    with pytest.raises(UserError, match=r"cannot list.*dataset\.synthesis=samples"):
        synthesis.check(task, "enumerator")
    for way in ("none", "samples"):
        synthesis.check(task, way)
