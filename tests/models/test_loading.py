"""Models and tokenizers: what is saved is what is loaded; the shipped base is what it claims."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from forkdiv.core.config.study import DecoderConfig, PromptConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Problem
from forkdiv.coverage import exact
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.loading import (
    PRESETS,
    load_model,
    load_tokenizer,
    new_model,
    next_token_logprobs,
    response_probabilities,
    token_logprobs,
    word_tokenizer,
)
from forkdiv.models.prompting import encode
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.graphs import node_names
from forkdiv.tasks.registry import build
from tests.fakes import TASK, an_eval

BASE = Path(__file__).parents[2] / "forkdiv/models/base/graph-d3-l3"
HELDOUT = build(TASK).heldout("test", 100)
END = "<eos>"
RAW = PromptConfig()
SOME_TENSOR = "model.layers.0.mlp.up_proj.weight"

Tensors = dict[str, torch.Tensor]


@cache
def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_model(BASE), load_tokenizer(BASE)


def branches(problem: Problem) -> list[str]:
    """Where the edges that leave the start lead, in the order they are listed."""
    return [b for a, b in problem.facts["edges"] if a == problem.facts["start"]]


@cache
def arm_probabilities(temperature: float) -> np.ndarray:
    """Shape (held-out problems, arms): each arm walked to its end, forward."""
    model, tokenizer = loaded()
    pairs = []
    for problem in HELDOUT:
        following = dict(tuple(edge) for edge in problem.facts["edges"])
        for node in branches(problem):
            path = [problem.facts["start"], node]
            while path[-1] in following:
                path.append(following[path[-1]])
            pairs.append((problem.prompt, " ".join(path)))
    values = response_probabilities(model, tokenizer, pairs, [temperature])
    return values.reshape(len(HELDOUT), TASK.degree)


def broken(tmp_path: Path, change: Callable[[Tensors], object]) -> Path:
    """A copy of the shipped base with other tensors in it."""
    folder = tmp_path / "broken"
    shutil.copytree(BASE, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("names", [16, 60])
def test_a_saved_tokenizer_gives_the_same_ids_when_it_is_loaded_beside_its_model(
    tmp_path: Path, names: int
) -> None:
    task = build(GraphBranchingConfig(names=names))
    tokenizer = word_tokenizer(task.vocabulary(), END)
    new_model("micro-llama", tokenizer, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for problem in task.heldout("test", 20):
        for text in (problem.prompt, *(trace.text for trace in task.solutions(problem))):
            ids = tokenizer(text)["input_ids"]
            assert again(text)["input_ids"] == ids
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.eos_token_id not in ids
            marked = text.replace(">", " > ").replace("!", " ! ")
            assert again.decode(ids).split() == marked.split()


def test_a_tokenizer_of_a_qwen2_checkpoint_is_the_one_in_its_file(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(build(TASK).vocabulary(), END)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    prompt = HELDOUT[0].prompt
    assert load_tokenizer(tmp_path)(prompt)["input_ids"] == tokenizer(prompt)["input_ids"]


def test_the_trap_that_rules_out_qwen2_is_still_there(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(build(TASK).vocabulary(), END)
    new_model("micro-llama", tokenizer, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    prompt = HELDOUT[0].prompt
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert again(prompt)["input_ids"] != tokenizer(prompt)["input_ids"]


def test_every_word_of_a_task_is_one_token() -> None:
    vocabulary = build(GraphBranchingConfig(names=60)).vocabulary()
    tokenizer = word_tokenizer(vocabulary, END)
    ids = [tokenizer(word)["input_ids"] for word in vocabulary]
    assert sorted(i for (i,) in ids) == list(range(3, 3 + len(vocabulary)))


@pytest.mark.parametrize(
    "strange",
    [
        "Strange",
        "?",
        "z9",
        "abc1",
        "path",
    ],
)
def test_an_unknown_word_is_a_single_unknown_token(strange: str) -> None:
    tokenizer = word_tokenizer(build(GraphBranchingConfig(names=60)).vocabulary(), END)
    assert tokenizer(strange)["input_ids"] == [tokenizer.unk_token_id]


def test_of_words_that_begin_alike_the_longest_is_one_token() -> None:
    vocabulary = ["a", "a1", "a12", "=", "==", "step", "steps:", "step:", "+", "."]
    tokenizer = word_tokenizer(vocabulary, "</end>")
    for word in vocabulary:
        assert tokenizer.convert_ids_to_tokens(tokenizer(word)["input_ids"]) == [word]
    text = "steps: a12==a1 + a . step"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    assert tokens == ["steps:", "a12", "==", "a1", "+", "a", ".", "step"]
    assert tokenizer.eos_token == "</end>"


def test_a_word_with_signs_in_it_is_taken_as_it_is_and_not_as_a_pattern() -> None:
    tokenizer = word_tokenizer(["a.b", "(", "[x]", "axb*"], "<eos>")
    ids = tokenizer("a.b ( [x] axb* aab")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[:4] == ["a.b", "(", "[x]", "axb*"]
    assert set(ids[4:]) == {tokenizer.unk_token_id}


def test_a_response_ends_with_the_end_token_and_a_prompt_does_not() -> None:
    _, tokenizer = loaded()
    prompt, response = encode(tokenizer, "start: a goal: b path:", "a b", RAW)
    assert tokenizer.decode(response) == "a b <eos>"
    assert tokenizer.eos_token_id not in prompt
    assert prompt + response[:-1] == tokenizer("start: a goal: b path: a b")["input_ids"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing", lambda tensors: tensors.pop(SOME_TENSOR)),
        ("unexpected", lambda tensors: tensors.update({"model.odd.weight": torch.zeros(2)})),
    ],
)
def test_weights_that_are_not_exactly_the_models_are_refused(
    tmp_path: Path, kind: str, change: Callable[[Tensors], Any]
) -> None:
    with pytest.raises(UserError, match=f"do not match its config.json: got {kind}: model"):
        load_model(broken(tmp_path, change))


def test_a_tensor_of_another_shape_does_not_load(tmp_path: Path) -> None:
    folder = broken(tmp_path, lambda tensors: tensors.update({SOME_TENSOR: torch.zeros(3, 128)}))
    with pytest.raises((UserError, RuntimeError)):
        load_model(folder)


def test_half_a_file_of_weights_does_not_load(tmp_path: Path) -> None:
    folder = broken(tmp_path, lambda tensors: None)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(Exception, match="incomplete"):
        load_model(folder)


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    folder = broken(tmp_path, lambda tensors: None)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no file named model\.safetensors"):
        load_model(folder)


def test_a_preset_of_no_such_name_is_refused() -> None:
    with pytest.raises(UserError, match="unknown model preset: got tiny-qwen; allowed: tiny-llama"):
        new_model("tiny-qwen", word_tokenizer(["a"], END), 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_new_model_follows_from_its_seed_and_carries_no_sampling_defaults(
    preset: str, tmp_path: Path
) -> None:
    tokenizer = word_tokenizer(build(TASK).vocabulary(), END)
    first, same, other = (new_model(preset, tokenizer, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    new_model(preset, tokenizer, 0).save_pretrained(tmp_path)
    defaults = json.loads((tmp_path / "generation_config.json").read_text())
    assert defaults.keys() <= {"eos_token_id", "pad_token_id", "transformers_version"}
    again = load_model(tmp_path).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_probabilities_do_not_depend_on_batches_or_padding() -> None:
    model, tokenizer = loaded()
    names = node_names(TASK.names)
    pairs = [(p.prompt, " ".join(names[: 1 + i % 9])) for i, p in enumerate(HELDOUT[:12])]
    pairs += [("path:", "a b"), (HELDOUT[0].prompt, build(TASK).solutions(HELDOUT[0])[0].text)]
    whole = response_probabilities(model, tokenizer, pairs, [1.0, 0.7, 0.0])
    assert whole.shape == (14, 3) and whole.dtype == np.float64
    for tokens in (1, 200):
        parts = response_probabilities(
            model, tokenizer, pairs, [1.0, 0.7, 0.0], tokens_at_once=tokens
        )
        np.testing.assert_allclose(np.log(parts[:, :2]), np.log(whole[:, :2]), atol=2e-4)
        assert parts[:, 2].tolist() == whole[:, 2].tolist()


def test_a_probability_is_the_product_of_its_next_token_probabilities() -> None:
    model, tokenizer = loaded()
    problem = HELDOUT[1]
    text = build(TASK).solutions(problem)[0].text
    prompt, response = encode(tokenizer, problem.prompt, text, RAW)
    prefixes = [prompt + response[:i] for i in range(len(response))]
    steps = next_token_logprobs(BASE, prefixes)
    total = sum(step[token] for step, token in zip(steps, response, strict=True))
    (value,) = response_probabilities(model, tokenizer, [(problem.prompt, text)], [1.0])[:, 0]
    assert np.log(value) == pytest.approx(total, abs=1e-4)
    assert all(np.exp(step).sum() == pytest.approx(1) for step in steps)


def test_a_tokens_log_probability_depends_on_what_is_given_and_not_on_what_follows() -> None:
    model, tokenizer = loaded()
    prompts = [tokenizer(problem.prompt)["input_ids"] for problem in HELDOUT[:3]]
    prompts[1] = prompts[1][:9]
    asked = [(2, len(prompts[2]), 7), (0, 5, 3), (1, 9, 1), (0, len(prompts[0]), 4), (2, 5, 7)]
    expected = next_token_logprobs(BASE, [prompts[row][:given] for row, given, _ in asked])
    known = [step[token] for step, (_, _, token) in zip(expected, asked, strict=True)]
    for tokens in (1, 60, 10**6):
        found = token_logprobs(model, prompts, asked, [1.0, 2.0, 0.0], tokens)
        assert found.shape == (5, 3) and found.dtype == np.float64
        np.testing.assert_allclose(found[:, 0], known, atol=1e-4)
        hot = [torch.log_softmax(torch.tensor(step) / 2, -1) for step in expected]
        flat = [float(step[token]) for step, (_, _, token) in zip(hot, asked, strict=True)]
        np.testing.assert_allclose(found[:, 1], flat, atol=1e-4)
        greedy = [
            0.0 if step.argmax() == a[2] else -np.inf
            for step, a in zip(expected, asked, strict=True)
        ]
        assert found[:, 2].tolist() == greedy


def test_logits_that_are_doubled_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = loaded()
    pairs = [(p.prompt, build(TASK).solutions(p)[0].text) for p in HELDOUT[:3]]
    whole = response_probabilities(model, tokenizer, pairs, [1.0])
    monkeypatch.setattr("forkdiv.models.loading.DOUBLES_AT_ONCE", 3 * model.config.vocab_size)
    assert response_probabilities(model, tokenizer, pairs, [1.0]).tolist() == whole.tolist()


def test_a_prediction_needs_a_prefix() -> None:
    model, _ = loaded()
    with pytest.raises(ValueError, match=r"at least one token, queries\[1\] is \(0, 0, 4\)"):
        token_logprobs(model, [[5, 6]], [(0, 1, 4), (0, 0, 4)], [1.0])


def test_no_responses_give_no_probabilities() -> None:
    model, tokenizer = loaded()
    assert response_probabilities(model, tokenizer, [], [1.0, 0.5]).shape == (0, 2)
    assert token_logprobs(model, [], [], [1.0, 0.5]).shape == (0, 2)


def test_the_shipped_base_is_small_and_holds_no_pickle() -> None:
    files = [file for file in BASE.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4 * 10**6
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert load_tokenizer(BASE).get_vocab().keys() >= set(build(TASK).vocabulary())


def test_the_shipped_base_walks_real_paths() -> None:
    real = arm_probabilities(1.0).sum(axis=1)
    assert real.mean() >= 0.95


@pytest.mark.parametrize("subset", ["signed", "unsigned"])
def test_the_shipped_base_is_right_by_chance_and_covers_every_problem(subset: str) -> None:
    problems = [problem for problem in HELDOUT if problem.subset == subset]
    p = exact.probabilities(an_eval(TASK, problems, DecoderConfig()), open_checkpoint(BASE))
    assert len(problems) == 50
    assert p.mean() == pytest.approx(1 / TASK.degree, abs=0.03)
    assert (1 - (1 - p) ** 64).mean() >= 0.99
    assert p.min() > 0.1


def test_the_shipped_base_ignores_signs_and_targets() -> None:
    shares = arm_probabilities(1.0) / arm_probabilities(1.0).sum(axis=1, keepdims=True)
    assert shares.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.03)
    right = [
        branches(problem).index(build(TASK).solutions(problem)[0].text.split()[1])
        for problem in HELDOUT
    ]
    chosen = shares[np.arange(len(HELDOUT)), right]
    assert chosen.mean() == pytest.approx(1 / 3, abs=0.03)
