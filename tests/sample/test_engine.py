"""Every decoder on a real engine: it draws what the reference says of the model's logits."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.decoding import distribution, entropy, first_candidates
from forkdiv.models.loading import load_model, load_tokenizer, next_token_logprobs
from forkdiv.models.prompting import prompt_ids
from forkdiv.sample.engine_settings import sampling_params, set_threads
from forkdiv.tasks.registry import build
from tests.checkpoints import with_norm
from tests.checkpoints_tokens import renumbered
from tests.serving import STUDY, Ask, Engine
from tests.stack import BASE
from tuning.session import engine_spec

pytestmark = pytest.mark.stack

BASE_CHECKPOINT = open_checkpoint(BASE)
N = 2048  # samples of one prompt
ALPHA = 1e-6  # of one test: 60 of them raise one false alarm in 15,000 runs

DECODERS = {
    "plain": DecoderConfig(),
    "cold": DecoderConfig(temperature=0.5),
    "hot": DecoderConfig(temperature=2.0),
    "min_p": DecoderConfig(temperature=2.0, min_p=0.2),
    "top_k": DecoderConfig(temperature=2.0, top_k=3),
    "top_p": DecoderConfig(temperature=2.0, top_p=0.7),
    "top_n_sigma": DecoderConfig(temperature=2.0, top_n_sigma=1.0),
    "gate": DecoderConfig(temperature=0.5, gate_entropy=0.7, hot_temperature=2.0),
    "greedy gate": DecoderConfig(temperature=0.0, gate_entropy=0.7, hot_temperature=1.5),
    "all": DecoderConfig(
        temperature=0.7,
        gate_entropy=0.7,
        hot_temperature=2.0,
        top_n_sigma=2.0,
        min_p=0.02,
        top_k=8,
        top_p=0.95,
    ),
}


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The base, less sure of everything: every decoder draws from it in a way of its own."""
    return open_checkpoint(with_norm(tmp_path_factory.mktemp("checkpoints") / "soft", 0.5))


def test_on_cpu_the_model_runs_in_the_engines_own_process(engine: Engine) -> None:
    """One of its own for the model takes as long again to start, and a core to wait."""
    below = engine.replica().children(recursive=True)
    lines = [" ".join(one.cmdline()).strip() for one in below]
    assert [line for line in lines if line.startswith("VLLM::")] == ["VLLM::EngineCore"]


def test_a_small_model_computes_with_one_thread_unless_more_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = engine_spec(STUDY, BASE_CHECKPOINT)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what Ray leaves
    set_threads(spec)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    set_threads(replace(spec, config=spec.config.model_copy(update={"threads": 3})))
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.fixture(scope="module")
def contexts() -> list[tuple[Problem, str]]:
    """Problems with the beginning of a response: none, the start, and the start with an arm."""
    problems = build(STUDY.task).heldout("test", 6)
    out = []
    for i, problem in enumerate(problems):
        path = build(STUDY.task).solutions(problem)[0].text.split()
        out.append((problem, " ".join(path[: i % 3])))
    return out


@pytest.fixture(scope="module")
def logits(contexts: list[tuple[Problem, str]], soft: Checkpoint) -> list[np.ndarray]:
    tokenizer = load_tokenizer(BASE)
    heads = [prompt_ids(tokenizer, p.prompt, STUDY.prompt, prefix) for p, prefix in contexts]
    # up to a constant, which no decoder heeds
    return next_token_logprobs(soft.path, heads)


@pytest.fixture(scope="module")
def counts(
    engine: Engine, contexts: list[tuple[Problem, str]], soft: Checkpoint
) -> dict[str, list[Counter[int | None]]]:
    """How often each first token came (None: the end), all decoders in one batch."""
    asks, whose = [], []
    for part in range(0, N, 256):
        for at, (problem, prefix) in enumerate(contexts):
            # decoders alternate, so that rows of the engine's batch differ in their arguments
            for name in DECODERS:
                decoder = DECODERS[name].model_copy(update={"max_new_tokens": 1})
                seed = 100_000 * (at + 1) + 7919 * list(DECODERS).index(name) + part
                asks.append(Ask(soft, problem.prompt, 256, seed, decoder, prefix))
                whose.append((name, at))
    found: dict[str, list[Counter[int | None]]] = {
        name: [Counter() for _ in contexts] for name in DECODERS
    }
    for (name, at), drawn in zip(whose, engine.samples(*asks), strict=True):
        found[name][at].update(one.token_ids[0] if one.token_ids else None for one in drawn)
    return found


def p_value(seen: Counter[int | None], p: np.ndarray, end: int) -> float:
    """Of a chi-square test, tokens expected less than 5 times counted as one; 0 where a token
    came that is impossible."""
    observed = np.zeros(len(p))
    for token, times in seen.items():
        observed[end if token is None else token] += times
    if observed[p == 0].any():
        return 0.0
    often = p * N >= 5
    first = np.append(observed[often], observed[~often].sum())
    second = np.append(p[often], p[~often].sum()) * N
    kept = second > 0
    if kept.sum() < 2:
        return 1.0
    return float(chisquare(first[kept], second[kept]).pvalue)


@pytest.mark.parametrize("name", DECODERS)
def test_tokens_come_as_often_as_the_reference_says_of_the_models_logits(
    name: str, counts: dict[str, list[Counter[int | None]]], logits: list[np.ndarray]
) -> None:
    end = load_tokenizer(BASE).eos_token_id
    values = [
        p_value(seen, distribution(row, DECODERS[name]), end)
        for seen, row in zip(counts[name], logits, strict=True)
    ]
    assert min(values) > ALPHA, values


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "plain"])
def test_the_same_frequencies_refute_every_other_decoder(
    name: str, counts: dict[str, list[Counter[int | None]]], logits: list[np.ndarray]
) -> None:
    """The power of the test above: a knob that were ignored, or another request's arguments,
    would be seen, wherever the two differ by a total variation of 0.1 or more."""
    end, told = load_tokenizer(BASE).eos_token_id, 0
    for other in DECODERS:
        for seen, row in zip(counts[name], logits, strict=True):
            own, theirs = distribution(row, DECODERS[name]), distribution(row, DECODERS[other])
            if np.abs(own - theirs).sum() / 2 >= 0.1:
                assert p_value(seen, theirs, end) < ALPHA, (name, other)
                told += 1
    assert told >= 20


def test_the_contexts_hold_both_sides_of_the_gate(logits: list[np.ndarray]) -> None:
    unsure = entropy(np.array(logits)) >= 0.7
    assert unsure.any() and not unsure.all()


def test_first_tokens_cycle_through_the_models_likeliest_and_only_once(
    engine: Engine,
    contexts: list[tuple[Problem, str]],
    logits: list[np.ndarray],
    soft: Checkpoint,
) -> None:
    decoder, plain = DecoderConfig(first_tokens=5), DecoderConfig()
    asks = []
    for at, (problem, prefix) in enumerate(contexts):
        for one, first in ((decoder, 3), (plain, 0)):
            asks.append(Ask(soft, problem.prompt, 24, 64 * at, one, prefix, first))
    found = engine.samples(*asks)
    end = load_tokenizer(BASE).eos_token_id
    for at, row in enumerate(logits):
        candidates = first_candidates(row, 5).tolist()
        forced = [one.token_ids[0] if one.token_ids else end for one in found[2 * at]]
        assert forced == [candidates[(3 + i) % 5] for i in range(24)]
    # what follows is free: forced and free responses have the same lengths in places
    later = {one.token_ids[1:] for one in found[0] if one.token_ids}
    assert len(later) > 5


def test_more_first_tokens_than_the_model_has_tokens_are_refused(
    engine: Engine, contexts: list[tuple[Problem, str]]
) -> None:
    many = DecoderConfig(first_tokens=4096)
    with pytest.raises(UserError, match=r"decoder\.first_tokens is larger"):
        engine.samples(Ask(BASE_CHECKPOINT, contexts[0][0].prompt, 1, 0, many))


@pytest.mark.parametrize("arguments", [{"top_sigma": 1.0}, {"top_n_sigma": -1.0}])
def test_invalid_decoder_arguments_are_refused(arguments: dict[str, Any]) -> None:
    """That the engine answers on is tested in soak, where it runs in the test's own process."""
    from forkdiv.sample.logits_processors import DecoderProcessor

    params = sampling_params(DecoderConfig(), 1, 0, 0, (1,))
    params.extra_args = arguments
    with pytest.raises(ValueError, match="decoder argument"):
        DecoderProcessor.validate_params(params)


def test_a_tree_leaves_its_probe_at_the_forks_along_it(
    engine: Engine, contexts: list[tuple[Problem, str]]
) -> None:
    decoder = DecoderConfig(tree_samples=8, fork_entropy=0.7, branch_probability=0.1)
    model, tokenizer = load_model(BASE).eval(), load_tokenizer(BASE)
    asks = [
        Ask(BASE_CHECKPOINT, problem.prompt, 32, 64 * i, decoder)
        for i, (problem, _) in enumerate(contexts)
    ]
    for (problem, _), drawn in zip(contexts, engine.samples(*asks), strict=True):
        head = prompt_ids(tokenizer, problem.prompt, STUDY.prompt)
        for tree in (drawn[i : i + 8] for i in range(0, 32, 8)):
            probe = tree[0].token_ids
            with torch.inference_mode():
                rows = model(torch.tensor([[*head, *probe]])).logits[0, len(head) - 1 :]
            unsure = entropy(rows.double().numpy()) >= 0.7
            leaves = [_parting(probe, one.token_ids) for one in tree[1:]]
            assert unsure.any() == any(at is not None for at in leaves)
            # the first ones leave the probe, at a fork; later ones may go on along it
            assert leaves[0] is not None and unsure[leaves[0]]
            assert all(one.text == tokenizer.decode(list(one.token_ids)) for one in tree)


def _parting(probe: tuple[int, ...], other: tuple[int, ...]) -> int | None:
    """Where two responses differ first; None where they are one."""
    if probe == other:
        return None
    pairs = zip(probe, other, strict=False)
    differ = (i for i, (one, two) in enumerate(pairs) if one != two)
    return next(differ, min(len(probe), len(other)))


def test_a_tree_is_drawn_again_from_its_seed_alone(
    engine: Engine, contexts: list[tuple[Problem, str]]
) -> None:
    decoder = DecoderConfig(tree_samples=4)
    prompt = contexts[0][0].prompt
    (both,) = engine.samples(Ask(BASE_CHECKPOINT, prompt, 8, 1000, decoder))
    (late,) = engine.samples(Ask(BASE_CHECKPOINT, prompt, 4, 1004, decoder))
    assert both[4:] == late


def test_trees_are_not_cut(engine: Engine, contexts: list[tuple[Problem, str]]) -> None:
    short = DecoderConfig(tree_samples=4, max_new_tokens=3)
    (found,) = engine.samples(Ask(BASE_CHECKPOINT, contexts[0][0].prompt, 8, 0, short))
    assert {len(one.token_ids) for one in found} <= {1, 2, 3}
    assert [one.finish for one in found if len(one.token_ids) == 3] == ["length"] * sum(
        len(one.token_ids) == 3 for one in found
    )


@pytest.mark.parametrize("numbering", ["base", "renumbered"])
def test_a_response_ends_before_a_stop_text_in_its_own_tokenizer(
    engine: Engine,
    contexts: list[tuple[Problem, str]],
    numbering: str,
    tmp_path: Path,
) -> None:
    """The engine's first checkpoint numbers its tokens otherwise than the second."""
    checkpoint = BASE_CHECKPOINT if numbering == "base" else renumbered(tmp_path / "other")
    prompt = contexts[0][0].prompt
    (plain,) = engine.samples(Ask(checkpoint, prompt, 32, 500, DecoderConfig()))
    word = Counter(one.text.split()[2] for one in plain if len(one.text.split()) > 2)
    stop = f" {word.most_common(1)[0][0]}"
    (ended,) = engine.samples(Ask(checkpoint, prompt, 32, 500, DecoderConfig(stop=(stop,))))
    assert [one.text for one in ended] == [one.text.partition(stop)[0] for one in plain]
    cut = [one for one, whole in zip(ended, plain, strict=True) if stop in whole.text]
    assert cut and {one.finish for one in cut} == {"stop"}
    assert sum(len(one.token_ids) for one in ended) < sum(len(one.token_ids) for one in plain)
