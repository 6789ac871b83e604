"""Exact probabilities equal what an enumeration of every likely response finds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from forkdiv.core.config.study import DecoderConfig, EvalConfig, PromptConfig
from forkdiv.core.records import Outcome, Problem
from forkdiv.core.store import Store
from forkdiv.coverage import exact
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer, next_token_logprobs
from forkdiv.models.prompting import prompt_ids
from forkdiv.tasks.counterfactual_arithmetic import CounterfactualConfig
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.fakes import TASK, an_eval

BASE = Path(__file__).parents[2] / "forkdiv/models/base/graph-d3-l3"
PROBLEMS = build(TASK).heldout("test", 4)
CONFIG = EvalConfig(problems=4, samples=4)
RAW = PromptConfig()
TWO_VALID = GraphBranchingConfig(valid=2)
NEGLIGIBLE = 4e-4


@cache
def base() -> Checkpoint:
    return open_checkpoint(BASE)


def enumerated(
    config: GraphBranchingConfig, problem: Problem, temperature: float
) -> tuple[float, float]:
    """The mass of correct responses, and the mass of all that was too unlikely to follow.

    Walks the tree of all token sequences, judging each finished one by its text alone.
    """
    model, tokenizer = load_model(BASE).eval(), load_tokenizer(BASE)
    task = build(config)
    longest = task.longest_response()
    assert longest is not None
    prompt = tokenizer(problem.prompt)["input_ids"]
    open_paths: list[tuple[list[int], float]] = [([], 1.0)]
    correct = 0.0
    finished = 0.0
    for _ in range(longest):
        with torch.inference_mode():
            ids = torch.tensor([prompt + path for path, _ in open_paths])
            logits = model(ids).logits[:, -1].double()
        steps = torch.softmax(logits / temperature, dim=-1).numpy()
        following: list[tuple[list[int], float]] = []
        for (path, mass), step in zip(open_paths, steps, strict=True):
            for token, share in enumerate(step):
                p = mass * float(share)
                if token == tokenizer.eos_token_id:
                    finished += p
                    text = tokenizer.decode(path)
                    if task.verify(problem, text).outcome is Outcome.CORRECT:
                        correct += p
                elif p > NEGLIGIBLE:
                    following.append(([*path, token], p))
        open_paths = following
        if not open_paths:
            break
    return correct, 1 - finished


@pytest.mark.parametrize(
    ("task", "temperature"), [(TASK, 0.7), (TASK, 1.0), (TASK, 1.3), (TWO_VALID, 1.0)], ids=str
)
def test_exact_values_are_the_mass_of_all_correct_responses(
    task: GraphBranchingConfig, temperature: float
) -> None:
    decoder = DecoderConfig(temperature=temperature)
    problems = build(task).heldout("test", 2)  # one signed, one unsigned
    values = exact.probabilities(an_eval(task, problems, decoder), base())
    assert values.shape == (2,)
    for problem, value in zip(problems, values, strict=True):
        correct, unknown = enumerated(task, problem, temperature)
        assert correct - 1e-5 <= value <= correct + unknown + 1e-5
        assert unknown < 0.04  # else the bounds would say nothing


def test_exact_values_are_those_under_the_prompts_template() -> None:
    prompt = PromptConfig(template="plain", text="goal: {prompt} start:")
    there = exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig(), prompt), base())
    written = [replace(one, prompt=f"goal: {one.prompt} start:") for one in PROBLEMS]
    expected = exact.probabilities(an_eval(TASK, written, DecoderConfig()), base())
    assert there.tolist() == expected.tolist()
    plain = exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig()), base())
    assert not np.allclose(there, plain, rtol=1e-3)


def test_a_task_that_cannot_list_its_solutions_has_no_exact_values() -> None:
    config = CounterfactualConfig()
    problems = build(config).heldout("test", 4)
    assert not build(config).exhaustive
    with pytest.raises(ValueError, match="counterfactual_arithmetic does not list every correct"):
        exact.probabilities(an_eval(config, problems, DecoderConfig()), base())


def test_exact_values_differ_between_temperatures() -> None:
    cold, hot = (
        exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig(temperature=t)), base())
        for t in (0.3, 2.0)
    )
    assert np.all(np.abs(cold - hot) > 0.01)


def test_at_temperature_0_exact_is_whether_greedy_decoding_is_correct() -> None:
    problems = build(TASK).heldout("test", 8)
    values = exact.probabilities(an_eval(TASK, problems, DecoderConfig(temperature=0)), base())
    model, tokenizer = load_model(BASE).eval(), load_tokenizer(BASE)
    greedy = []
    for problem in problems:
        ids = tokenizer(problem.prompt, return_tensors="pt")["input_ids"]
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16
        )
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        greedy.append(build(TASK).verify(problem, text).outcome is Outcome.CORRECT)
    assert values.tolist() == [float(right) for right in greedy]
    assert 0 < sum(greedy) < len(greedy)


def test_trees_have_no_exact_values(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exact probabilities are undefined for trees"):
        exact.obtain(
            Store(tmp_path),
            an_eval(TASK, PROBLEMS, DecoderConfig(tree_samples=4), config=CONFIG),
            base(),
        )


def test_a_decoder_that_cuts_everything_but_the_likeliest_token_is_greedy() -> None:
    greedy = exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig(temperature=0.0)), base())
    cut = exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig(top_k=1)), base())
    assert cut.tolist() == greedy.tolist()


def test_a_gate_that_never_opens_changes_nothing() -> None:
    plain = exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig(temperature=0.7)), base())
    shut = DecoderConfig(temperature=0.7, gate_entropy=50.0, hot_temperature=2.0)
    np.testing.assert_allclose(exact.probabilities(an_eval(TASK, PROBLEMS, shut), base()), plain)


def test_first_tokens_have_a_probability_each_and_together_the_whole_one() -> None:
    decoder = DecoderConfig(first_tokens=4)
    by_first = exact.probabilities(an_eval(TASK, PROBLEMS, decoder), base())
    assert by_first.shape == (len(PROBLEMS), 4)
    whole = exact.probabilities(an_eval(TASK, PROBLEMS, DecoderConfig()), base())
    tokenizer = load_tokenizer(BASE)
    heads = [prompt_ids(tokenizer, problem.prompt, RAW) for problem in PROBLEMS]
    chances = np.exp([np.sort(row)[::-1][:4] for row in next_token_logprobs(BASE, heads)])
    np.testing.assert_allclose((by_first * chances).sum(1), whole, atol=1e-6)


def test_exact_values_are_computed_once_and_read_back_unchanged(tmp_path: Path) -> None:
    store, decoder = Store(tmp_path), DecoderConfig()
    made = exact.obtain(store, an_eval(TASK, PROBLEMS, decoder, config=CONFIG), base())
    found = exact.obtain(store, an_eval(TASK, PROBLEMS, decoder, config=CONFIG), base())
    assert made == found
    expected = exact.probabilities(an_eval(TASK, PROBLEMS, decoder), base())
    assert exact.read(found).tolist() == expected.tolist()


def test_number_and_length_of_samples_are_not_part_of_the_identity_of_exact_values() -> None:
    def of(
        config: EvalConfig, decoder: DecoderConfig, problems: int = 4, prompt: PromptConfig = RAW
    ) -> str:
        return exact.identity(
            an_eval(TASK, [PROBLEMS[0]] * problems, decoder, prompt, config), base()
        ).fingerprint

    plain = of(CONFIG, DecoderConfig())
    more = EvalConfig(problems=4, samples=64, seed=3)
    assert plain == of(more, DecoderConfig(max_new_tokens=64))
    assert plain != of(CONFIG, DecoderConfig(temperature=0.9))
    assert plain != of(CONFIG, DecoderConfig(dtype="bfloat16"))
    assert plain != of(CONFIG, DecoderConfig(), problems=6)
    assert plain != of(CONFIG, DecoderConfig(), prompt=PromptConfig(template="plain"))
    assert plain != of(EvalConfig(split="validation"), DecoderConfig())
