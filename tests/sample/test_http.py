"""The OpenAI-compatible route on real Ray Serve and vLLM, asked by OpenAI's own client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import APIStatusError, AuthenticationError, NotFoundError, OpenAI

from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tasks.registry import build
from tests.checkpoints import greedy_text
from tests.serving import KEY, STUDY, Engine

pytestmark = pytest.mark.stack

PROBLEMS = build(STUDY.task).heldout("test", 6)
GREEDY: dict[str, Any] = {"max_tokens": 16, "temperature": 0.0}


@pytest.fixture(scope="module")
def served(engine: Engine) -> dict[str, Checkpoint]:
    return engine.served


@pytest.fixture(scope="module")
def client(engine: Engine) -> OpenAI:
    return OpenAI(base_url=engine.url, api_key=KEY, max_retries=0, timeout=300)


def test_the_served_checkpoints_are_listed_by_name(
    client: OpenAI, served: dict[str, Checkpoint]
) -> None:
    assert [one.id for one in client.models.list()] == list(served)


def test_requests_for_two_checkpoints_at_once_are_answered_from_the_right_weights(
    client: OpenAI, served: dict[str, Checkpoint]
) -> None:
    asked = [(name, problem) for problem in PROBLEMS for name in ("base", "run/epoch-0001")]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda one: client.completions.create(model=one[0], prompt=one[1].prompt, **GREEDY),
                asked,
            )
        )
    for (name, problem), answer in zip(asked, answers, strict=True):
        want = greedy_text(served[name], problem, GREEDY["max_tokens"])
        assert answer.model == name
        assert [choice.text.strip() for choice in answer.choices] == [want]


def test_several_prompts_and_token_ids_are_answered_in_their_order(client: OpenAI) -> None:
    prompts = [problem.prompt for problem in PROBLEMS[:3]]
    together = client.completions.create(model="base", prompt=prompts, **GREEDY)
    alone = [client.completions.create(model="base", prompt=one, **GREEDY) for one in prompts]
    assert [one.text for one in together.choices] == [one.choices[0].text for one in alone]


def test_a_stream_is_the_whole_answer_in_parts(client: OpenAI) -> None:
    prompt = PROBLEMS[0].prompt
    parts = client.completions.create(model="base", prompt=prompt, stream=True, **GREEDY)
    whole = client.completions.create(model="base", prompt=prompt, **GREEDY)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text


def test_a_seed_gives_the_same_samples_again(client: OpenAI) -> None:
    ask: dict[str, Any] = {
        "model": "base",
        "prompt": PROBLEMS[0].prompt,
        "n": 16,
        "max_tokens": 16,
        "seed": 5,
    }
    first, again = (client.completions.create(**ask, temperature=1.0) for _ in range(2))
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in again.choices] and len(set(texts)) > 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"n": 0}, "n must be 1 to 4096"),
        ({"n": 1_000_000}, "n must be 1 to 4096"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": ["", "a"]}, "a prompt of the list is empty"),
        ({"prompt": "edges: " * 2000}, "512"),
        ({"max_tokens": 100_000}, "512"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 3}, "top_p"),
        ({"extra_body": {"hotness": 3}}, "unknown arguments: hotness"),
        ({"prompt": [3, 25]}, "token id 25 in prompt is outside the vocabulary of 25"),
        ({"prompt": [[3], [2**40]]}, f"token id {2**40} in prompt is outside the vocabulary of 25"),
        ({"logit_bias": {"25": 1}}, "token id 25 in logit_bias is outside the vocabulary of 25"),
        ({"logit_bias": {"-1": 1}}, "token id -1 in logit_bias is outside the vocabulary of 25"),
        (
            {"extra_body": {"stop_token_ids": [25]}},
            "token id 25 in stop_token_ids is outside the vocabulary of 25",
        ),
        (
            {"extra_body": {"allowed_token_ids": [-1]}},
            "token id -1 in allowed_token_ids is outside the vocabulary of 25",
        ),
        (
            {"logprobs": 1, "extra_body": {"logprob_token_ids": [99]}},
            "token id 99 in logprob_token_ids is outside the vocabulary of 25",
        ),
        (
            {
                "seed": 1,
                "extra_body": {
                    "vllm_xargs": {"first_tokens": 26, "first_index": 0, "first_seed": 1}
                },
            },
            "first_tokens is larger than the vocabulary: got 26; allowed: at most 25",
        ),
    ],
)
def test_an_invalid_request_gets_an_error_with_the_reason(
    client: OpenAI, bad: dict[str, Any], said: str
) -> None:
    ask: dict[str, Any] = {"model": "base", "prompt": PROBLEMS[0].prompt, **GREEDY, **bad}
    with pytest.raises(APIStatusError) as refused:
        client.completions.create(**ask)
    assert refused.value.status_code == 400
    assert said in str(refused.value)


def test_a_checkpoint_with_other_token_ids_reads_and_writes_its_own(client: OpenAI) -> None:
    """It has the base's weights in another order: its answers are the base's in text only."""
    for problem in PROBLEMS:
        ask: dict[str, Any] = {"prompt": problem.prompt, **GREEDY, "logprobs": 1}
        ask["extra_body"] = {"return_token_ids": True}
        base, other = (
            client.completions.create(model=name, **ask).choices[0].model_dump()
            for name in ("base", "renumbered")
        )
        assert other["text"] == base["text"] and other["finish_reason"] == "stop"
        assert other["logprobs"]["tokens"] == base["logprobs"]["tokens"]
        assert other["token_ids"] != base["token_ids"]
        parts = client.completions.create(model="renumbered", stream=True, **ask)
        assert "".join(part.choices[0].text for part in parts) == base["text"]


def test_a_grammar_is_refused_on_a_checkpoint_with_other_token_ids(client: OpenAI) -> None:
    ask: dict[str, Any] = {"prompt": PROBLEMS[0].prompt, "max_tokens": 8}
    ask["extra_body"] = {"structured_outputs": {"choice": ["a b", "b a"]}}
    with pytest.raises(APIStatusError) as refused:
        client.completions.create(model="renumbered", **ask)
    assert refused.value.status_code == 400
    assert "another vocabulary than the checkpoint" in str(refused.value)


def test_an_unknown_checkpoint_is_not_found_and_the_served_ones_are_named(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="the model 'nobody' is not served here; allowed: base"):
        client.completions.create(model="nobody", prompt="a", **GREEDY)


def test_a_broken_checkpoint_is_refused_by_name_and_the_others_are_still_served(
    client: OpenAI, served: dict[str, Checkpoint]
) -> None:
    with pytest.raises(APIStatusError) as refused:
        client.completions.create(model="broken", prompt=PROBLEMS[0].prompt, **GREEDY)
    assert refused.value.status_code == 503
    assert str(served["broken"].path) in str(refused.value)
    assert client.completions.create(model="base", prompt=PROBLEMS[0].prompt, **GREEDY).choices


def test_without_the_key_nothing_is_answered(engine: Engine) -> None:
    stranger = OpenAI(base_url=engine.url, api_key="a guess", max_retries=0)
    with pytest.raises(AuthenticationError, match="API key is missing or wrong"):
        stranger.models.list()
    with pytest.raises(AuthenticationError):
        stranger.completions.create(model="base", prompt="a", **GREEDY)
