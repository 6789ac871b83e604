"""Samples: every key exactly once, every seed once, nothing drawn twice, whoever dies and when."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.config.study import DecoderConfig, EvalConfig, PromptConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.records import Problem
from forkdiv.core.remote.objects import Objects
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.parts import DamagedPart
from forkdiv.sample.sample_sets import (
    REQUESTS_PER_PART,
    SEED_SPACE,
    SEED_STRIDE,
    SampleSet,
    seed_of,
)
from forkdiv.tasks.registry import build
from tests.core.remote.test_remote_store import on_host
from tests.fakes import TASK, FakeSampler, an_eval

CHECKPOINT = Checkpoint(Path("nowhere"), "c" * 32)
DECODER = DecoderConfig()
RAW = PromptConfig()
WHAT = sample_sets.identity(an_eval(TASK, None, DECODER, RAW, EvalConfig()), CHECKPOINT)
PROBLEMS = build(TASK).heldout("test", 6)
MANY = build(TASK).heldout("test", 200)

SLOW = """
import sys
from pathlib import Path
from tests.fakes import FakeSampler
from tests.sample.test_sample_sets import MANY, obtained
from forkdiv.core.store import Store

obtained(Store(Path(sys.argv[1])), FakeSampler(delay_s=0.01), MANY, 3)
"""


@dataclass(frozen=True)
class Named(Identity):
    """An identity of a chosen fingerprint, to place a set's first seed."""

    name: str = ""

    @property
    def fingerprint(self) -> str:
        return self.name


def obtained(
    store: Store,
    sampler: FakeSampler,
    problems: Sequence[Problem] = PROBLEMS,
    n: int = 4,
    what: Identity = WHAT,
    decoder: DecoderConfig = DECODER,
) -> SampleSet:
    progress = Progress(store.root / "progress.jsonl")
    evaluation = an_eval(TASK, problems, decoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_sets, "identity", lambda *_: what)
        each = [n] * len(problems)
        return sample_sets.obtain(store, evaluation, CHECKPOINT, sampler, progress, each)


def rows(samples: SampleSet) -> list[dict[str, Any]]:
    parts = samples.path.glob("part-*.parquet")
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def keys(samples: SampleSet) -> list[tuple[str, int]]:
    return sorted((row["problem_id"], row["sample_index"]) for row in rows(samples))


def all_keys(problems: Sequence[Problem], n: int) -> list[tuple[str, int]]:
    return sorted((problem.id, index) for problem in problems for index in range(n))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_every_sample_is_stored_once_with_its_own_seed(store: Store) -> None:
    samples = obtained(store, FakeSampler())
    assert keys(samples) == all_keys(PROBLEMS, 4)
    ordinals = {problem.id: i for i, problem in enumerate(PROBLEMS)}
    for row in rows(samples):
        assert row["seed"] == seed_of(WHAT, ordinals[row["problem_id"]], row["sample_index"])
    assert len({row["seed"] for row in rows(samples)}) == 24


def test_a_finished_set_asks_the_sampler_for_nothing(store: Store) -> None:
    obtained(store, FakeSampler())
    again = FakeSampler()
    assert not obtained(store, again, n=3).failed
    assert again.asked == []


def test_more_samples_extend_the_set_and_draw_the_missing_only(store: Store) -> None:
    before = {key: row for row in rows(obtained(store, FakeSampler(), n=3)) if (key := str(row))}
    more = FakeSampler()
    samples = obtained(store, more, n=10)
    assert [(request.first_index, request.n) for request in more.asked] == [(3, 7)] * 6
    assert keys(samples) == all_keys(PROBLEMS, 10)
    assert before.keys() <= {str(row) for row in rows(samples)}


def test_more_problems_extend_the_set_and_leave_the_first_ones_samples(store: Store) -> None:
    obtained(store, FakeSampler(), PROBLEMS[:4])
    more = FakeSampler()
    samples = obtained(store, more, PROBLEMS)
    assert [request.problem for request in more.asked] == PROBLEMS[4:]
    whole = obtained(Store(store.root / "other"), FakeSampler(), PROBLEMS)
    assert sorted(map(str, rows(samples))) == sorted(map(str, rows(whole)))


def test_sampling_that_is_killed_goes_on_on_a_host_that_shares_only_the_storage(
    tmp_path: Path, url: str
) -> None:
    on_host_a = f"on_host(Path(sys.argv[1]), {url!r})"
    script = SLOW.replace("Store(Path(sys.argv[1]))", on_host_a)
    script = f"from tests.core.remote.test_remote_store import on_host\n{script}"
    storage, env = Objects(url), os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a")], env=env) as process:
        deadline = time.monotonic() + 60
        while not any(one.key.endswith("parts.json") for one in storage.listed("samples/")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    stored = on_host(tmp_path / "b", url)
    before = SampleSet(WHAT, stored.grown(WHAT)).stored_indices()
    assert 0 < len(before) < len(MANY)
    sampler = FakeSampler()
    samples = obtained(stored, sampler, MANY, 3)
    assert keys(samples) == all_keys(MANY, 3)
    assert len(sampler.asked) == len(MANY) - len(before), "nothing is drawn twice"
    again = FakeSampler()
    third = obtained(on_host(tmp_path / "c", url), again, MANY, 3)
    assert again.asked == [] and sorted(map(str, rows(third))) == sorted(map(str, rows(samples)))


def test_fewer_samples_read_the_first_ones(store: Store) -> None:
    samples = obtained(store, FakeSampler(), n=5)
    few = list(samples.completions(PROBLEMS[:2], 2))
    assert [(one.problem_id, one.sample_index) for one in few] == all_keys_in_order(2)


def all_keys_in_order(n: int) -> list[tuple[str, int]]:
    return [(problem.id, index) for problem in PROBLEMS[:2] for index in range(n)]


Places = st.tuples(st.integers(0, SEED_SPACE // SEED_STRIDE - 1), st.integers(0, SEED_STRIDE - 1))


@given(Places, Places, st.text("0123456789abcdef", min_size=1))
def test_no_two_samples_of_a_set_share_the_low_32_bits_of_a_seed(
    first: tuple[int, int], second: tuple[int, int], name: str
) -> None:
    what = Named("samples", {}, name=name)
    one, other = seed_of(what, *first), seed_of(what, *second)
    assert 0 <= one < SEED_SPACE
    assert (one == other) == (first == second)


@given(st.integers(0, SEED_SPACE // SEED_STRIDE - 2), st.text("0123456789abcdef", min_size=1))
def test_a_problems_last_seed_is_followed_by_the_next_ones_first(ordinal: int, name: str) -> None:
    what = Named("samples", {}, name=name)
    last = seed_of(what, ordinal, SEED_STRIDE - 1)
    assert seed_of(what, ordinal + 1, 0) == (last + 1) % SEED_SPACE


@pytest.mark.parametrize(
    ("ordinal", "index"), [(0, SEED_STRIDE), (SEED_SPACE // SEED_STRIDE, 0), (-1, 0), (0, -1)]
)
def test_a_seed_outside_the_space_is_refused(ordinal: int, index: int) -> None:
    with pytest.raises(ValueError, match="no seed for problem"):
        seed_of(WHAT, ordinal, index)


def wrapping(ordinals: int, n: int) -> tuple[Identity, int, int]:
    """An identity whose seeds start again at 0 at one of the first samples of some problem."""
    for i in itertools.count():
        offset = int(hashlib.sha256(f"wrap{i}".encode()).hexdigest(), 16) % SEED_SPACE
        ordinal, index = divmod(SEED_SPACE - offset, SEED_STRIDE)
        if ordinal < ordinals and 0 < index < n:
            return Named("samples", {}, name=f"wrap{i}"), ordinal, index
    raise AssertionError


@pytest.fixture(scope="module")
def wrap() -> tuple[Identity, int, int]:
    return wrapping(len(MANY), 64)


@pytest.mark.parametrize("held", ["nothing", "up to the wrap", "past the wrap"])
def test_a_request_never_runs_past_the_32_bits(
    store: Store, wrap: tuple[Identity, int, int], held: str
) -> None:
    what, ordinal, index = wrap
    assert seed_of(what, ordinal, index) == 0
    n = index + 3
    problems = MANY[: ordinal + 1]
    if held != "nothing":
        first = index if held == "up to the wrap" else index + 1
        obtained(store, FakeSampler(), problems, first, what)
    sampler = FakeSampler()
    samples = obtained(store, sampler, problems, n, what)
    assert keys(samples) == all_keys(problems, n)
    place = {problem.id: i for i, problem in enumerate(problems)}
    for request in sampler.asked:
        assert request.n > 0
        for i in range(request.n):
            seed = seed_of(what, place[request.problem.id], request.first_index + i)
            assert request.seed + i == seed < SEED_SPACE
    last = [(r.first_index, r.n) for r in sampler.asked if r.problem == problems[ordinal]]
    assert (
        last
        == {
            "nothing": [(0, index), (index, 3)],
            "up to the wrap": [(index, 3)],
            "past the wrap": [(index + 1, 2)],
        }[held]
    )


def test_a_sampler_that_dies_leaves_whole_parts_and_the_next_run_draws_the_rest(
    store: Store,
) -> None:
    with pytest.raises(ConnectionError):
        obtained(store, FakeSampler(dies_after=REQUESTS_PER_PART + 10), MANY, 3)
    half = SampleSet(WHAT, store.root / "samples" / WHAT.fingerprint)
    assert len(rows(half)) >= 3 * REQUESTS_PER_PART
    held = set(keys(half))
    rest = FakeSampler()
    samples = obtained(store, rest, MANY, 3)
    assert rest.drawn == 3 * len(MANY) - len(held)
    assert keys(samples) == all_keys(MANY, 3)


def test_a_killed_process_leaves_every_key_to_be_drawn_exactly_once(store: Store) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(store.root)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    samples = SampleSet(WHAT, store.root / "samples" / WHAT.fingerprint)
    deadline = time.monotonic() + 30
    while not list(samples.path.glob("part-*.parquet")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    held = len(keys(samples))
    assert 0 < held < 3 * len(MANY)
    rest = FakeSampler()
    samples = obtained(store, rest, MANY, 3)
    assert rest.drawn == 3 * len(MANY) - held
    assert keys(samples) == all_keys(MANY, 3)
    whole = obtained(Store(store.root / "other"), FakeSampler(), MANY, 3)
    assert sorted(map(str, rows(samples))) == sorted(map(str, rows(whole)))


def test_what_a_kill_left_half_written_is_removed_and_never_read(store: Store) -> None:
    samples = obtained(store, FakeSampler(), n=2)
    stale = samples.path / ".part-0123.parquet"
    stale.write_bytes(b"PAR1 half a part")
    assert keys(samples) == all_keys(PROBLEMS, 2)
    obtained(store, FakeSampler(), n=2)
    assert not stale.exists()


def test_failed_requests_are_reported_and_only_their_samples_are_missing(store: Store) -> None:
    unlucky = FakeSampler(fails=lambda request: request.problem == PROBLEMS[1])
    samples = obtained(store, unlucky)
    assert [one.request.problem for one in samples.failed] == [PROBLEMS[1]]
    read = [(one.problem_id, one.sample_index) for one in samples.completions(PROBLEMS, 4)]
    assert sorted(read) == all_keys([p for p in PROBLEMS if p != PROBLEMS[1]], 4)
    with pytest.raises(InvalidResult, match="4 samples failed: the replica is gone"):
        samples.require_complete()


def test_a_failed_extension_keeps_what_the_problem_had(store: Store) -> None:
    obtained(store, FakeSampler(), n=2)
    samples = obtained(store, FakeSampler(fails=lambda request: True), n=4)
    read = [(one.problem_id, one.sample_index) for one in samples.completions(PROBLEMS, 4)]
    assert sorted(read) == all_keys(PROBLEMS, 2)


def test_the_next_run_draws_what_failed(store: Store) -> None:
    obtained(store, FakeSampler(fails=lambda request: request.problem == PROBLEMS[1]))
    lucky = FakeSampler()
    samples = obtained(store, lucky)
    assert [request.problem for request in lucky.asked] == [PROBLEMS[1]]
    assert not samples.failed and keys(samples) == all_keys(PROBLEMS, 4)
    samples.require_complete()


def test_a_missing_sample_that_did_not_fail_raises(store: Store) -> None:
    samples = obtained(store, FakeSampler(), n=2)
    with pytest.raises(InvalidResult, match=rf"6 problems are missing .*{PROBLEMS[0].id} \(1\)"):
        list(samples.completions(PROBLEMS, 3))


def test_a_sample_that_is_stored_twice_is_refused_with_its_row(store: Store) -> None:
    samples = obtained(store, FakeSampler(), n=2)
    (part,) = samples.path.glob("part-*.parquet")
    again = samples.path / "part-zz.parquet"
    pq.write_table(pq.read_table(part).slice(3, 1), again)
    twice = f"sample 1 of problem {PROBLEMS[1].id} is stored twice: again in row 0 of {again}"
    with pytest.raises(InvalidResult, match=twice):
        list(samples.completions(PROBLEMS, 2))


def test_a_portion_is_read_from_the_parts_that_hold_it(store: Store) -> None:
    first, second = PROBLEMS[:3], PROBLEMS[3:]
    obtained(store, FakeSampler(), first)
    samples = obtained(store, FakeSampler(), PROBLEMS)
    portion = samples.portions(3)
    (part,) = (one for one in samples.parts if second[0].id in pq.read_table(one)[0].to_pylist())
    part.write_bytes(b"damaged")
    read = [(one.problem_id, one.sample_index) for one in portion(first)]
    assert sorted(read) == all_keys(first, 3)
    with pytest.raises(DamagedPart, match=part.name):
        list(portion(second))
    part.unlink()
    with pytest.raises(InvalidResult, match="1 problems are missing"):
        list(samples.portions(3)(second[:1]))


def test_a_part_alone_is_enough_to_score_again(store: Store) -> None:
    samples = obtained(store, FakeSampler(chance=lambda checkpoint, problem: 0.6))
    (part,) = samples.path.glob("part-*.parquet")
    verdicts = {"correct": 0, "wrong": 0}
    by_id = {problem.id: problem for problem in PROBLEMS}
    for row in pq.read_table(part).to_pylist():
        again = Problem(
            row["problem_id"], "", row["subset"], row["prompt"], json.loads(row["facts"])
        )
        original = by_id[again.id]
        assert (again.prompt, again.subset) == (original.prompt, original.subset)
        verdict = build(TASK).verify(again, row["text"])
        assert verdict == build(TASK).verify(original, row["text"])
        verdicts[verdict.outcome.value] += 1
        assert row["finish"] == "stop"
        assert len(row["token_ids"]) == len(row["text"].split())
    assert verdicts["correct"] > 0 and verdicts["wrong"] > 0
    assert json.loads((samples.path / "identity.json").read_text()) == WHAT.describe()


def test_samples_of_a_design_carry_their_stratum_or_their_tree(store: Store) -> None:
    forced, trees = DecoderConfig(first_tokens=3), DecoderConfig(tree_samples=2)
    for decoder, name, want in (
        (DECODER, "plain", [(None, None)] * 6),
        (forced, "forced", [(i % 3, None) for i in range(6)]),
        (trees, "trees", [(None, i // 2) for i in range(6)]),
    ):
        what = sample_sets.identity(an_eval(TASK, None, decoder, RAW, EvalConfig()), CHECKPOINT)
        samples = obtained(store, FakeSampler(), PROBLEMS[:1], 6, what, decoder)
        found = sorted(samples.completions(PROBLEMS[:1], 6), key=lambda one: one.sample_index)
        assert [(one.stratum, one.tree) for one in found] == want, name
        written = sorted(rows(samples), key=lambda row: int(row["sample_index"]))
        assert [(row["stratum"], row["tree"]) for row in written] == want, name


def test_parts_without_the_columns_of_a_design_are_read(store: Store) -> None:
    samples = obtained(store, FakeSampler(), PROBLEMS[:1])
    (part,) = samples.path.glob("part-*.parquet")
    older = pq.read_table(part).drop_columns(["stratum", "tree"])
    part.unlink()
    pq.write_table(older, samples.path / "part-0123.parquet")
    more = obtained(store, FakeSampler(), PROBLEMS[:1], 6)
    assert [one.tree for one in more.completions(PROBLEMS[:1], 6)] == [None] * 6


def test_only_whole_missing_trees_are_drawn(store: Store) -> None:
    trees = DecoderConfig(tree_samples=4)
    obtained(store, FakeSampler(), n=8, decoder=trees)
    more = FakeSampler()
    obtained(store, more, n=16, decoder=trees)
    assert {(one.first_index, one.n) for one in more.asked} == {(8, 8)}
    with pytest.raises(InvalidResult, match=r"allowed: a multiple of decoder\.tree_samples=4"):
        obtained(store, FakeSampler(), n=18, decoder=trees)


def test_an_incomplete_tree_is_refused(store: Store) -> None:
    obtained(store, FakeSampler(), n=6)
    with pytest.raises(InvalidResult, match=r"tree 1 of problem .* is incomplete"):
        obtained(store, FakeSampler(), n=8, decoder=DecoderConfig(tree_samples=4))


def test_a_tree_may_wrap_around_32_bits_but_its_request_ends_there(
    store: Store, wrap: tuple[Identity, int, int]
) -> None:
    what, ordinal, index = wrap
    size = 4
    n = size * (index // size + 3)
    sampler, problems = FakeSampler(), MANY[: ordinal + 1]
    samples = obtained(store, sampler, problems, n, what, DecoderConfig(tree_samples=size))
    assert keys(samples) == all_keys(problems, n)
    place = {problem.id: i for i, problem in enumerate(problems)}
    for row in rows(samples):
        assert row["seed"] == seed_of(what, place[row["problem_id"]], row["sample_index"])
    mine = [one for one in sampler.asked if one.problem == problems[ordinal]]
    assert len(mine) == 2 and all(one.first_index % size == one.n % size == 0 for one in mine)


def test_numbers_of_problems_and_samples_are_not_part_of_the_identity() -> None:
    def of(
        config: EvalConfig,
        decoder: DecoderConfig = DECODER,
        name: str = "c",
        prompt: PromptConfig = RAW,
    ) -> str:
        checkpoint = Checkpoint(Path("nowhere"), name)
        return sample_sets.identity(
            an_eval(TASK, None, decoder, prompt, config), checkpoint
        ).fingerprint

    plain = of(EvalConfig())
    assert plain == of(EvalConfig(samples=8, problems=10, k=(1, 2), bootstrap=100))
    others = [
        of(EvalConfig(seed=1)),
        of(EvalConfig(split="validation")),
        of(EvalConfig(), DecoderConfig(temperature=0.7)),
        of(EvalConfig(), DecoderConfig(top_p=0.95)),
        of(EvalConfig(), DecoderConfig(max_new_tokens=20)),
        of(EvalConfig(), DecoderConfig(first_tokens=4)),
        of(EvalConfig(), DecoderConfig(tree_samples=4)),
        of(EvalConfig(), DecoderConfig(tree_samples=4, fork_entropy=0.5)),
        of(EvalConfig(), name="d"),
        of(EvalConfig(), prompt=PromptConfig(template="plain")),
        of(EvalConfig(), prompt=PromptConfig(template="chat", system="Be brief.")),
    ]
    assert len({plain, *others}) == 1 + len(others)
