"""Messages to the route of chat completions on real Ray Serve and vLLM, asked by OpenAI's own
client."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, NotFoundError, OpenAI

from forkdiv.core.chat import pack
from forkdiv.core.config.decoder import DecoderConfig as Decoder
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.prompting import prompt_ids
from forkdiv.tasks.registry import build
from tests.serving import KEY, STUDY, Ask, Engine

pytestmark = pytest.mark.stack

PROBLEMS = build(STUDY.task).heldout("test", 4)
GREEDY: dict[str, Any] = {"max_tokens": 16, "temperature": 0.0}


def turns(*contents: Any) -> list[Any]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": one} for n, one in enumerate(contents)]


QUESTION = turns(PROBLEMS[0].prompt)


@pytest.fixture(scope="module")
def client(engine: Engine) -> OpenAI:
    return OpenAI(base_url=engine.url, api_key=KEY, max_retries=0, timeout=300)


def sampled_ids(checkpoint: Checkpoint, messages: list[Any], args: dict[str, Any]) -> list[int]:
    """The token ids that sampling with these messages as its chat prompt uses."""
    config = PromptConfig(template="chat", template_args=args)
    return prompt_ids(load_tokenizer(checkpoint.path), pack(messages), config)


@pytest.mark.parametrize(
    ("messages", "args"),
    [
        (QUESTION, {}),
        (turns(PROBLEMS[1].prompt, "a b", PROBLEMS[2].prompt), {}),
        (QUESTION, {"edge": "b>a"}),
    ],
)
def test_messages_become_the_tokens_that_sampling_uses(
    client: OpenAI, engine: Engine, messages: list[Any], args: dict[str, Any]
) -> None:
    more = {"return_token_ids": True, "chat_template_kwargs": args}
    answer = client.chat.completions.create(
        model="chat", messages=messages, extra_body=more, **GREEDY
    )
    ids = sampled_ids(engine.served["chat"], messages, args)
    assert answer.model_dump()["prompt_token_ids"] == ids
    assert answer.usage is not None and answer.usage.prompt_tokens == len(ids)
    same = client.completions.create(model="chat", prompt=ids, **GREEDY)
    assert answer.choices[0].message.content == same.choices[0].text
    assert answer.choices[0].finish_reason == same.choices[0].finish_reason
    assert answer.model == "chat"


def test_parts_of_text_are_one_text(client: OpenAI) -> None:
    words = PROBLEMS[0].prompt.split()
    parts = [{"type": "text", "text": " ".join(part)} for part in (words[:4], words[4:])]
    asked = [
        client.chat.completions.create(model="chat", messages=one, **GREEDY)
        for one in (turns(parts), QUESTION)
    ]
    assert asked[0].choices[0].message.content == asked[1].choices[0].message.content


def test_a_stream_is_the_whole_answer_in_parts_and_ends_with_its_usage(client: OpenAI) -> None:
    ask: dict[str, Any] = {"model": "chat", "messages": QUESTION, "n": 3, "seed": 4}
    ask |= {"max_completion_tokens": 12, "temperature": 1.0, "top_p": 0.95}
    whole = client.chat.completions.create(**ask)
    parts = list(
        client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    texts, ends = [""] * 3, [""] * 3
    for part in parts:
        for choice in part.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    choices = sorted(whole.choices, key=lambda choice: choice.index)
    assert texts == [choice.message.content for choice in choices] and len(set(texts)) > 1
    assert ends == [choice.finish_reason for choice in choices]
    assert parts[-1].usage == whole.usage and not parts[-1].choices


def test_an_asynchronous_client_gets_the_same_stream(client: OpenAI, engine: Engine) -> None:
    async def streamed() -> str:
        async with AsyncOpenAI(base_url=engine.url, api_key=KEY, max_retries=0) as other:
            stream = await other.chat.completions.create(
                model="chat", messages=QUESTION, stream=True, **GREEDY
            )
            return "".join([part.choices[0].delta.content or "" async for part in stream])

    whole = client.chat.completions.create(model="chat", messages=QUESTION, **GREEDY)
    assert asyncio.run(streamed()) == whole.choices[0].message.content


def test_log_probabilities_are_those_of_the_completions_route(
    client: OpenAI, engine: Engine
) -> None:
    answer = client.chat.completions.create(
        model="chat", messages=QUESTION, logprobs=True, top_logprobs=3, **GREEDY
    )
    ids = sampled_ids(engine.served["chat"], QUESTION, {})
    same = client.completions.create(model="chat", prompt=ids, logprobs=3, **GREEDY)
    assert answer.choices[0].logprobs and answer.choices[0].logprobs.content
    content = answer.choices[0].logprobs.content
    logs = same.choices[0].logprobs
    assert logs is not None
    assert [token.logprob for token in content] == pytest.approx(logs.token_logprobs)
    assert all(len(token.top_logprobs) == 3 for token in content)


def test_a_stop_text_ends_the_answer(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="chat", messages=QUESTION, **GREEDY)
    text = whole.choices[0].message.content or ""
    stop = text.split()[2]
    cut = client.chat.completions.create(model="chat", messages=QUESTION, stop=[stop], **GREEDY)
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"n": 0}, "n must be 1 to 4096"),
        ({"n": 1_000_000}, "n must be 1 to 4096"),
        ({"messages": turns("a " * 600)}, "512"),
        ({"max_tokens": 100_000}, "512"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 3}, "top_p"),
        ({"logit_bias": {"25": 1}}, "token id 25 in logit_bias is outside the vocabulary of 25"),
        ({"extra_body": {"hotness": 3}}, "unknown arguments: hotness"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"model": "base"}, "has no chat template, so it cannot answer messages"),
        ({"extra_body": {"chat_template_kwargs": {"x": 1}}}, "does not read x"),
    ],
)
def test_an_invalid_request_gets_an_error_with_the_reason(
    client: OpenAI, bad: dict[str, Any], said: str
) -> None:
    ask: dict[str, Any] = {"model": "chat", "messages": QUESTION, **GREEDY, **bad}
    with pytest.raises(APIStatusError) as refused:
        client.chat.completions.create(**ask)
    assert refused.value.status_code == 400
    assert said in str(refused.value)


def test_an_unknown_checkpoint_is_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="the model 'nobody' is not served here; allowed: base"):
        client.chat.completions.create(model="nobody", messages=QUESTION, **GREEDY)


def test_a_template_that_never_ends_is_stopped_while_other_requests_are_answered(
    client: OpenAI,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        endless = pool.submit(
            lambda: client.chat.completions.create(model="endless", messages=QUESTION, **GREEDY)
        )
        answers = 0
        while not endless.done():
            client.completions.create(model="base", prompt=PROBLEMS[0].prompt, **GREEDY)
            answers += 1
        assert answers >= 3 and time.monotonic() - started < 30
        with pytest.raises(APIStatusError, match="exceeds a limit") as refused:
            endless.result()
        assert refused.value.status_code == 400


def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_its_generation(
    client: OpenAI, engine: Engine
) -> None:
    """The engine is busy with the whole stream for seconds; without its client for a moment."""
    ask: dict[str, Any] = {"model": "chat", "messages": QUESTION, "n": 48, "stream": True}
    ask |= {"max_tokens": 400, "extra_body": {"ignore_eos": True}}
    started = time.monotonic()
    assert sum(1 for _ in client.chat.completions.create(**ask)) > 48 * 300
    whole = time.monotonic() - started

    before = engine.sampler.tokens_drawn()
    stream = client.chat.completions.create(**ask)
    for _, _part in zip(range(100), stream, strict=False):
        pass
    assert (engine.sampler.tokens_drawn() or 0) > (before or 0), "it is not generated any more"
    stream.close()
    left = time.monotonic()
    while engine.sampler.tokens_drawn() != before:  # those of unfinished requests are counted
        assert time.monotonic() - left < whole / 2, "the generation goes on"
        time.sleep(0.05)


def test_a_stream_keeps_its_checkpoint_loaded_to_its_end(client: OpenAI, engine: Engine) -> None:
    ask: dict[str, Any] = {"model": "chat", "messages": QUESTION, "n": 16, "seed": 1}
    ask |= {"max_tokens": 200, "temperature": 1.0, "stream": True}
    alone = [part.model_dump()["choices"] for part in client.chat.completions.create(**ask)]
    stream = iter(client.chat.completions.create(**ask))
    beside = [next(stream).model_dump()["choices"]]
    with ThreadPoolExecutor(1) as pool:
        prompt = PROBLEMS[0].prompt
        other = pool.submit(
            lambda: client.completions.create(model="run/epoch-0001", prompt=prompt, **GREEDY)
        )
        beside += [part.model_dump()["choices"] for part in stream]
        assert other.result().choices
    assert texts_of(beside) == texts_of(alone)


def texts_of(parts: list[Any]) -> list[str]:
    texts: dict[int, str] = {}
    for choice in (choice for part in parts for choice in part):
        texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"]["content"] or "")
    return [texts[index] for index in sorted(texts)]


def test_the_answer_is_that_of_the_handle_of_a_study(client: OpenAI, engine: Engine) -> None:
    """Sampling of a study renders the same prompt, and draws the same greedy response."""
    checkpoint = engine.served["chat"]
    ids = sampled_ids(checkpoint, QUESTION, {})
    text = load_tokenizer(checkpoint.path).decode(ids)
    ((sample,),) = engine.samples(
        Ask(checkpoint, text, 1, 0, Decoder(temperature=0.0, max_new_tokens=16))
    )
    answer = client.chat.completions.create(model="chat", messages=QUESTION, **GREEDY)
    assert (answer.choices[0].message.content or "").strip() == sample.text.strip()
