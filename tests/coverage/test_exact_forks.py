"""Probabilities at the forks are the model's own next-token probabilities there."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from forkdiv.core.config.study import DecoderConfig, EvalConfig, PromptConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Problem
from forkdiv.core.store import Store
from forkdiv.coverage import exact, exact_forks, stats
from forkdiv.coverage.fork_summary import ForkProbabilities, at_forks
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_tokenizer, new_model, next_token_logprobs, word_tokenizer
from forkdiv.models.prompting import ids_with_offsets, response_ids
from forkdiv.tasks.counterfactual_arithmetic import CounterfactualConfig
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from forkdiv.tasks.search_modes import SearchModesConfig
from forkdiv.tasks.words_or_code import WordsOrCodeConfig
from tests.checkpoints_tokens import edit
from tests.fakes import TASK, an_eval

BASE = Path(__file__).parents[2] / "forkdiv/models/base/graph-d3-l3"
PROBLEMS = build(TASK).heldout("test", 100)
CONFIG = EvalConfig(problems=4, samples=4)
PLAIN = DecoderConfig()
RAW = PromptConfig()
TWO_VALID = GraphBranchingConfig(valid=2)
TWO_FORKS = GraphBranchingConfig(forks=2, names=20)
BOTH = GraphBranchingConfig(forks=2, valid=2, names=20)
MODES = SearchModesConfig()


@cache
def base() -> Checkpoint:
    return open_checkpoint(BASE)


@cache
def measured() -> ForkProbabilities:
    return exact_forks.probabilities(an_eval(TASK, PROBLEMS, PLAIN), base())


def saved(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Checkpoint:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(folder, "f" * 32)


def opinionated(folder: Path, task: TaskConfig, seed: int = 0) -> Checkpoint:
    """A model of random weights, large enough that it prefers some tokens to others."""
    tokenizer = word_tokenizer(build(task).vocabulary(), "<eos>")
    model = new_model("micro-llama", tokenizer, seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(2.0 if weights.ndim == 2 else 1.0)
    return saved(folder, model, tokenizer)


def indifferent(folder: Path, task: TaskConfig) -> tuple[Checkpoint, int]:
    """A model to which all tokens are equally likely, and how many it knows."""
    tokenizer = word_tokenizer(build(task).vocabulary(), "<eos>")
    model = new_model("micro-llama", tokenizer, 0)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()  # the output's too: they are tied
    return saved(folder, model, tokenizer), len(tokenizer)


def test_a_response_may_end_with_any_end_token_that_the_checkpoint_names(tmp_path: Path) -> None:
    one, _ = indifferent(tmp_path / "one", TASK)
    shutil.copytree(one.path, tmp_path / "two")
    edit(tmp_path / "two" / "generation_config.json", eos_token_id=[1, 2])
    two = open_checkpoint(tmp_path / "two")
    evaluation = an_eval(TASK, build(TASK).heldout("test", 2), PLAIN)
    first, second = (exact.probabilities(evaluation, checkpoint) for checkpoint in (one, two))
    assert second == pytest.approx(2 * first, rel=1e-6)
    first, second = (exact_forks.probabilities(evaluation, each).p for each in (one, two))
    assert second == pytest.approx(2 * first, rel=1e-6)
    assert exact.identity(evaluation, two).config["ends"] == ["<eos>", "<unk>"]
    assert "ends" not in exact.identity(evaluation, one).config


def after(checkpoint: Checkpoint, problem: Problem, said: str, temperature: float) -> np.ndarray:
    """The probability of every next token."""
    tokenizer = load_tokenizer(checkpoint.path)
    ids = tokenizer(f"{problem.prompt} {said}".strip())["input_ids"]
    (logs,) = next_token_logprobs(checkpoint.path, [ids])
    heated = np.exp(logs / temperature)
    return np.asarray(heated / heated.sum())


def seen(
    read: ForkProbabilities, problems: Sequence[Problem], subset: str | None = None
) -> dict[str, Any]:
    rows = [i for i, one in enumerate(problems) if subset in (None, one.subset)]
    weights = stats.bootstrap_weights([problems[i].subset for i in rows], 200, 0)
    return at_forks(read, rows, (1, 64), weights, 0.95).as_json()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("task", [TASK, TWO_VALID], ids=["one valid", "two valid"])
def test_a_branch_has_the_models_probability_of_its_token_after_what_comes_before(
    task: GraphBranchingConfig, temperature: float
) -> None:
    problems = build(task).heldout("test", 2)
    decoder = DecoderConfig(temperature=temperature)
    read = exact_forks.probabilities(an_eval(task, problems, decoder), base())
    tokenizer = load_tokenizer(BASE)
    assert [node.problem for node in read.nodes] == [0, 1]
    for node, problem in zip(read.nodes, problems, strict=True):
        assert node.prefix == f"{problem.facts['start']} "
        assert (node.depth, node.signed) == (1, problem.subset == "signed")
        chances = after(base(), problem, node.prefix, temperature)
        expected = [chances[tokenizer.convert_tokens_to_ids(name)] for name in node.branches]
        assert node.chances == pytest.approx(expected, abs=1e-4)
        assert len(node.valid) == task.valid


def test_a_second_fork_is_met_by_each_right_way_through_the_first(tmp_path: Path) -> None:
    checkpoint = opinionated(tmp_path, BOTH)
    problems = build(BOTH).heldout("test", 2)
    read = exact_forks.probabilities(an_eval(BOTH, problems, PLAIN), checkpoint)
    tokenizer = load_tokenizer(checkpoint.path)
    for at, problem in enumerate(problems):
        first, *second = [node for node in read.nodes if node.problem == at]
        assert (first.depth, [node.depth for node in second]) == (1, [2, 2])
        reached = []
        for node in second:
            chances = after(checkpoint, problem, node.prefix, 1.0)
            expected = [chances[tokenizer.convert_tokens_to_ids(name)] for name in node.branches]
            assert node.chances == pytest.approx(expected, abs=1e-4)
            words = node.prefix.split()
            given = [after(checkpoint, problem, " ".join(words[:i]), 1.0) for i in range(4)]
            ids = tokenizer.convert_tokens_to_ids(words)
            reached.append(math.prod(p[token] for p, token in zip(given, ids, strict=True)))
        share = reached[0] / sum(reached)
        assert [node.weight for node in second] == pytest.approx([share, 1 - share], abs=1e-3)
        assert abs(share - 0.5) > 0.01


@pytest.mark.parametrize("task", [TASK, TWO_VALID, TWO_FORKS, BOTH, MODES], ids=str)
def test_p_is_at_most_q(tmp_path: Path, task: TaskConfig) -> None:
    problems = build(task).heldout("test", 4)
    for seed in range(2):
        checkpoint = opinionated(tmp_path / str(seed), task, seed)
        read = exact_forks.probabilities(an_eval(task, problems, PLAIN), checkpoint)
        p = exact.probabilities(an_eval(task, problems, PLAIN), checkpoint)
        np.testing.assert_allclose(np.log(read.p), np.log(p), atol=1e-3)
        assert np.all(read.p < read.q) and np.all(read.q <= 1)
        for node in read.nodes:
            assert 0 < sum(node.chances) < 1


def test_an_indifferent_model_is_right_as_often_as_its_vocabulary_lets_it(tmp_path: Path) -> None:
    checkpoint, tokens = indifferent(tmp_path, BOTH)
    problems = build(BOTH).heldout("test", 4)
    read = exact_forks.probabilities(an_eval(BOTH, problems, PLAIN), checkpoint)
    depths = seen(read, problems)["depths"]
    assert [(one["depth"], one["signed"]) for one in depths] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
    ]
    for one in depths:
        assert one["problems"] == 2
        assert one["accuracy"]["value"] == pytest.approx(2 / tokens)
        assert one["entropy"] == pytest.approx(math.log(3))
        assert one["uniform"] == pytest.approx(math.log(3))
        assert one["chance"] == pytest.approx(2 / 3)
        assert one["off"] == pytest.approx(1 - 3 / tokens)
        assert one["shares"] == pytest.approx([1 / tokens] * 3)
    # half the responses are told backwards, and are right by certainty
    assert read.q == pytest.approx(0.5 * (2 / tokens) ** 2 + 0.5)


@pytest.mark.parametrize("subset", ["signed", "unsigned"])
def test_the_shipped_base_chooses_blindly_and_loses_what_it_loses_at_the_fork(subset: str) -> None:
    found = seen(measured(), PROBLEMS, subset)
    (fork,) = found["depths"]
    assert (fork["depth"], fork["signed"]) == (1, subset == "signed")
    assert fork["accuracy"]["value"] == pytest.approx(1 / 3, abs=0.03)
    assert fork["accuracy"]["low"] < 1 / 3 < fork["accuracy"]["high"]
    assert 0.97 * math.log(3) < fork["entropy"] < fork["uniform"] == pytest.approx(math.log(3))
    assert 0 < fork["off"] < 0.02
    assert found["fork_pass_at"]["1"] == pytest.approx(1 / 3, abs=0.03)
    assert 0 <= found["fork_pass_at"]["1"] - found["pass_at"]["1"] < 0.01


def test_a_colder_model_is_surer_at_the_fork_and_errs_less_elsewhere() -> None:
    by_heat = [
        exact_forks.probabilities(
            an_eval(TASK, PROBLEMS[:20], DecoderConfig(temperature=t)), base()
        )
        for t in (0.3, 1.0, 2.0)
    ]
    found = [seen(read, PROBLEMS[:20], "unsigned")["depths"][0] for read in by_heat]
    assert found[0]["entropy"] < found[1]["entropy"] < found[2]["entropy"]
    assert found[0]["shares"][0] > found[1]["shares"][0] > found[2]["shares"][0]
    lost = [float((read.q - read.p).mean()) for read in by_heat]
    assert lost[0] < lost[1] < lost[2]


def test_at_temperature_0_the_most_likely_token_is_taken() -> None:
    greedy = exact_forks.probabilities(
        an_eval(TASK, PROBLEMS[:20], DecoderConfig(temperature=0)), base()
    )
    plain = exact_forks.probabilities(an_eval(TASK, PROBLEMS[:20], PLAIN), base())
    for cold, node in zip(greedy.nodes, plain.nodes, strict=True):
        assert cold.chances == tuple(float(p == max(node.chances)) for p in node.chances)
    assert set(greedy.q.tolist()) == {0.0, 1.0}
    assert np.all(greedy.p <= greedy.q)


def test_values_are_those_under_the_prompts_template() -> None:
    prompt = PromptConfig(template="plain", text="goal: {prompt} start:")
    there = exact_forks.probabilities(an_eval(TASK, PROBLEMS[:4], PLAIN, prompt), base())
    written = [replace(one, prompt=f"goal: {one.prompt} start:") for one in PROBLEMS[:4]]
    assert (
        there.q.tolist()
        == exact_forks.probabilities(an_eval(TASK, written, PLAIN), base()).q.tolist()
    )
    assert not np.allclose(there.q, measured().q[:4], rtol=1e-3)


def byte_level(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """Tokens of one character, or of a letter with the space before it: `a1` is two of them."""
    characters = sorted({char for word in vocabulary for char in word} | {"\u0120"})
    spaced = [f"\u0120{char}" for char in characters if char.isalnum()]
    ids = {token: i for i, token in enumerate(["<pad>", "<eos>", *characters, *spaced])}
    merges = [("\u0120", token[1]) for token in spaced]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def test_names_of_several_tokens_are_located_at_their_forks(tmp_path: Path) -> None:
    task = GraphBranchingConfig(names=60)
    tokenizer = byte_level(build(task).vocabulary())
    text = "a k1 c"
    ids, ends = ids_with_offsets(tokenizer, text)
    assert ids == response_ids(tokenizer, text)
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "\u0120k", "1", "\u0120c"]
    assert ends == [1, 3, 4, 6]
    # alone, the beginning would end in a space that no longer name begins with
    assert response_ids(tokenizer, "a ") != ids[: len(response_ids(tokenizer, "a "))]
    model = new_model("micro-llama", tokenizer, 0)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    checkpoint = saved(tmp_path, model, tokenizer)
    problems = build(task).heldout("test", 60)
    read = exact_forks.probabilities(an_eval(task, problems, PLAIN), checkpoint)
    p = exact.probabilities(an_eval(task, problems, PLAIN), checkpoint)
    np.testing.assert_allclose(np.log(read.p), np.log(p), atol=1e-3)
    nested = [node for node in read.nodes if any(b[:-1] in node.branches for b in node.branches)]
    assert nested, "no branch begins another: draw more problems"
    for node in [*nested[:2], *read.nodes[:3]]:
        problem, start = problems[node.problem], problems[node.problem].facts["start"]
        # the space before a branch belongs to the branch
        given = [*tokenizer(problem.prompt)["input_ids"], *response_ids(tokenizer, start)]
        ways = {branch: response_ids(tokenizer, f" {branch}") for branch in node.branches}
        asked = [given + way[:i] for way in ways.values() for i in range(len(way))]
        steps = dict(zip(map(tuple, asked), next_token_logprobs(tmp_path, asked), strict=True))
        begun = {
            branch: math.prod(
                math.exp(steps[tuple(given + way[:i])][way[i]]) for i in range(len(way))
            )
            for branch, way in ways.items()
        }
        for branch, chance in zip(node.branches, node.chances, strict=True):
            longer = sum(begun[other] for other in node.branches if other[:-1] == branch)
            assert chance == pytest.approx(begun[branch] - longer, rel=1e-3)
    assert np.all(read.p <= read.q)


def test_a_tokenizer_that_does_not_know_the_names_is_refused() -> None:
    task = GraphBranchingConfig(names=200)
    with pytest.raises(UserError, match="encodes branches of a fork with the same tokens"):
        exact_forks.probabilities(an_eval(task, build(task).heldout("test", 2), PLAIN), base())


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="does not support character offsets: got Slow"):
        ids_with_offsets(Slow(), "a b")


@pytest.mark.parametrize(
    ("task", "known"),
    [
        (TASK, True),
        (BOTH, True),
        (MODES, True),
        (SearchModesConfig(degree=5, names=30), False),
        (CounterfactualConfig(), False),
        (WordsOrCodeConfig(), False),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_only_tasks_that_list_every_correct_response_have_values(
    task: TaskConfig, known: bool
) -> None:
    problems = build(task).heldout("test", 4)
    assert exact_forks.applies(build(task), problems) is known
    assert not exact_forks.applies(build(task), [])
    if not known:
        with pytest.raises(ValueError, match=f"{task.kind} does not list every correct response"):
            exact_forks.probabilities(an_eval(task, problems, PLAIN), base())


@pytest.mark.parametrize("cut", [{"top_p": 0.95}, {"top_k": 5}])
def test_a_decoder_that_truncates_is_refused(tmp_path: Path, cut: dict[str, float]) -> None:
    decoder = DecoderConfig.model_validate(cut)
    with pytest.raises(ValueError, match="truncates or reshapes"):
        exact_forks.obtain(
            Store(tmp_path), an_eval(TASK, PROBLEMS[:4], decoder, config=CONFIG), base()
        )


def test_fork_values_are_computed_once_and_read_back_unchanged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = exact_forks.obtain(store, an_eval(TASK, PROBLEMS[:4], PLAIN, config=CONFIG), base())
    assert (
        exact_forks.obtain(store, an_eval(TASK, PROBLEMS[:4], PLAIN, config=CONFIG), base()) == made
    )
    found = exact_forks.read(made)
    expected = exact_forks.probabilities(an_eval(TASK, PROBLEMS[:4], PLAIN), base())
    assert found.nodes == expected.nodes
    assert found.p.tolist() == expected.p.tolist()
    assert found.q.tolist() == expected.q.tolist()


def test_fork_values_have_the_identity_of_exact_values() -> None:
    def of(
        config: EvalConfig, decoder: DecoderConfig, problems: int = 4, prompt: PromptConfig = RAW
    ) -> str:
        return exact_forks.identity(
            an_eval(TASK, [PROBLEMS[0]] * problems, decoder, prompt, config), base()
        ).fingerprint

    plain = of(CONFIG, PLAIN)
    assert (
        plain
        != exact.identity(an_eval(TASK, [PROBLEMS[0]] * 4, PLAIN, RAW, CONFIG), base()).fingerprint
    )
    assert plain == of(EvalConfig(problems=4, seed=3), DecoderConfig(max_new_tokens=64))
    assert plain != of(CONFIG, DecoderConfig(temperature=0.9))
    assert plain != of(CONFIG, DecoderConfig(dtype="bfloat16"))
    assert plain != of(CONFIG, PLAIN, problems=6)
    assert plain != of(CONFIG, PLAIN, prompt=PromptConfig(template="plain"))
    assert plain != of(EvalConfig(split="validation"), PLAIN)
