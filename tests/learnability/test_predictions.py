"""Predictions along responses, and responses that a checkpoint draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from forkdiv.core.config.study import DatasetConfig, PromptConfig
from forkdiv.data.tokenized import Row, encode_examples
from forkdiv.learnability import predictions
from forkdiv.learnability.predictions import draw, predict
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.loading import load_model, next_token_logprobs, token_logprobs
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.stack import BASE


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    examples = build(GraphBranchingConfig()).sft_examples(DatasetConfig(examples=8))
    # rows of several lengths, in no order
    encoded = encode_examples(examples, BASE, PromptConfig())
    return [
        (prompt[i % 3 :], response[: 2 + i % 4]) for i, (prompt, response) in enumerate(encoded)
    ]


def test_labels_have_the_probabilities_of_the_model_in_any_batch(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [
        (row, len(prompt) + i, token)
        for row, (prompt, response) in enumerate(rows)
        for i, token in enumerate(response)
    ]
    logs = token_logprobs(load_model(BASE), [[*a, *b] for a, b in rows], queries, [1.0])
    whole = np.concatenate([one.label for one in predict(BASE, rows, "cpu")])
    np.testing.assert_allclose(whole, np.exp(logs[:, 0]), rtol=1e-4)
    monkeypatch.setattr(predictions, "MAX_BATCH_TOKENS", 80)
    monkeypatch.setattr(predictions, "MAX_CHUNK_DOUBLES", 50)
    small = np.concatenate([one.label for one in predict(BASE, rows, "cpu")])
    np.testing.assert_allclose(small, whole, rtol=1e-4)


def test_likely_tokens_are_the_fewest_with_nearly_all_of_the_probability(rows: list[Row]) -> None:
    prompt, response = rows[0]
    wanted = np.exp(next_token_logprobs(BASE, [prompt])[0])
    likely = predict(BASE, [(prompt, response)], "cpu")[0].likely.part(0, 1)
    order = np.argsort(-wanted)[: len(likely.ids)]
    assert set(likely.ids.tolist()) == set(order.tolist())
    np.testing.assert_allclose(likely.p, wanted[likely.ids], rtol=1e-3)
    assert likely.p.sum() >= predictions.KEPT_PROBABILITY > likely.p[:-1].sum()


def test_responses_are_drawn_as_the_model_gives_them_and_end_at_the_end_token(
    rows: list[Row],
) -> None:
    prompts, ends = [rows[0][0]] * 300 + [rows[1][0]], own_tokenizer(BASE).ends
    drawn = draw(BASE, prompts, 8, ends, 0, "cpu")
    assert [prompt for prompt, _ in drawn] == prompts
    assert all(not set(response[:-1]) & set(ends) for _, response in drawn)
    second = Counter(response[1] for _, response in drawn[:300])
    first = drawn[0][1][0]
    wanted = np.exp(next_token_logprobs(BASE, [[*prompts[0], first]])[0])
    for token, count in second.items():
        assert abs(count / 300 - wanted[token]) < 0.1
    assert draw(BASE, prompts[:5], 8, ends, 0, "cpu") == draw(BASE, prompts[:5], 8, ends, 0, "cpu")


def test_a_planted_rule_takes_the_smallest_plausible_id(rows: list[Row]) -> None:
    prompt, ends = rows[0][0], own_tokenizer(BASE).ends
    ((_, response),) = draw(BASE, [prompt], 8, ends, 0, "cpu", plausible=0.05)
    for i, token in enumerate(response):
        p = np.exp(next_token_logprobs(BASE, [[*prompt, *response[:i]]])[0])
        assert token == int(np.flatnonzero(p >= 0.05)[0])
