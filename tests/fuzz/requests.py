"""Sends damaged requests to the routes of one live server, and a good one between them: it must be
answered as at first, from the same engine.

The server has the shipped base with a chat template of `CHAT_TEMPLATE` beside it, under the name
`chat`."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.case import LONGEST_MESSAGE, SLOWEST_S, Tally
from tests.fuzz.mutate import VALUES, damaged_bytes, damaged_value, dumped

PROMPT = "edges: a>b b>c c>d d>e f>g start: a goal: e path:"
PATH, CHAT_PATH = "/v1/completions", "/v1/chat/completions"
CHAT_TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}{{ more if more is defined }}"
CHECK_EVERY = 20  # requests
VOCABULARY = 25  # of the shipped base
LIMITS: dict[str, tuple[Any, ...]] = {
    "n": (0, -1, 1, 2, 4096, 4097, 2**31, 1.5, "2"),
    "best_of": (0, 1, 100),
    "max_tokens": (0, -1, 1, 512, 10**6, 2**63, None),
    "min_tokens": (0, 5, -1, 10**6),
    "temperature": (0, -1, 1e-9, 0.005, 2, 2.1, 1e308, float("nan"), float("inf"), None, True),
    "top_p": (0, 1, 1.1, -0.1, float("nan"), 1e-300),
    "top_k": (0, -1, -2, 1, 25, 26, 2**31, 2**63),
    "min_p": (0, 1, -1, 2, float("nan")),
    "seed": (0, -1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, None, 1.5),
    "logprobs": (0, 1, 5, 25, 26, -1, -2, 10**9, True),
    "prompt_logprobs": (0, 1, -1, 26, 10**9),
    "echo": (True, False, "yes"),
    "stop": ("", "b", ["a", ""], ["x" * 10_000], [1], "\ud800", ["a"] * 5000),
    "stop_token_ids": ([], [0], [24], [25], [-1], [2**31], [2**63], [None]),
    "allowed_token_ids": ([], [0], [24], [25], [-1], [2**63], list(range(25))),
    "logprob_token_ids": ([0], [24], [25], [-1]),
    "bad_words": (["a"], [""], ["\ud800"], ["zzz"], [1], ["x" * 5000]),
    "logit_bias": ({"24": 100}, {"25": 1}, {"-1": 1}, {"a": 1}, {"1": 1e308}, {"1": float("nan")}),
    "presence_penalty": (-2, 2, 3, float("nan"), 1e308),
    "frequency_penalty": (-2, 2, -3, float("inf")),
    "repetition_penalty": (0, -1, 1, 1e308, float("nan"), 1e-308),
    "response_format": (
        {"type": "json_object"},
        {"type": "x"},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#"}}},
        {"type": "structural_tag"},
    ),
    "structured_outputs": (
        {"regex": "("},
        {"regex": "(a+)+$" * 20},
        {"regex": "a"},
        {"choice": []},
        {"choice": ["a", "b"]},
        {"grammar": "root ::= root"},
        {"grammar": "x"},
        {"json": {"type": "nothing"}},
        {"regex": "a", "choice": ["a"]},
    ),
    "vllm_xargs": (
        {"first_tokens": 25},
        {"first_tokens": 26},
        {"first_tokens": -1},
        {"x": []},
        {"first_tokens": "a"},
    ),
    "truncate_prompt_tokens": (-1, 0, 1, 10**9, -2),
    "stream": (True, "yes", None),
    "stream_options": ({"include_usage": True}, {}, 1),
    "suffix": ("a", 1),
    "user": ("\ud800", 1),
    "model": ("graph-d3-l4", "", "../x", None, 1, ["graph-d3-l3"], "x" * 100_000),
    "prompt": (
        *(
            "",
            " ",
            "a",
            PROMPT * 50,
            "x" * 200_000,
            "\ud800",
            "\0",
            "🙂" * 100,
            None,
            1,
            {},
            [],
            [[]],
        ),
        *([""], ["a", 1], [1, "a"], [0], [24], [25], [-1], [2**31], [2**63], [[24], [25]], [1.5]),
        *(
            [1] * 511,
            [1] * 512,
            [1] * 513,
            [1] * 10**5,
            [[1]] * 300,
            [PROMPT] * 40,
            [None],
            [[["a"]]],
        ),
    ),
    "prompt_embeds": ("AAAA", b"".hex(), ["x"], 1),
    "cache_salt": ("", "a", 1),
    "priority": (0, 1, -1, 2**63),
    "kv_transfer_params": ({"do_remote_prefill": True}, {}),
    "add_special_tokens": (True, False, 3),
    "use_beam_search": (True,),
    "length_penalty": (0, float("nan")),
    "request_id": ("a", "a" * 10_000, "../x", "\n"),
    "repetition_detection": ({"max_pattern_size": -1}, {"max_pattern_size": 10**9, "min_count": 1}),
    "include_stop_str_in_output": (True,),
    "ignore_eos": (True,),
    "skip_special_tokens": (False,),
    "spaces_between_special_tokens": (False,),
    "return_token_ids": (True, 1),
    "detokenize": (False,),
    "unknown": (1,),
}


TURN: dict[str, Any] = {"role": "user", "content": PROMPT}
CONTENTS: tuple[Any, ...] = ("", " ", None, 1, {}, [], "\ud800", "\0")
ROLES: tuple[Any, ...] = ("system", "assistant", "tool", "", None, 1, [])
# in place of `prompt`, for the route of chat completions
CHAT_LIMITS: dict[str, tuple[Any, ...]] = {
    "messages": (
        *([], None, 1, "a", {}, [None], [1], [[]], [{}], [{"role": "user"}], [{"content": "a"}]),
        *([TURN] * 2, [TURN] * 500, [{**TURN, "content": "x" * 200_000}]),
        *([{**TURN, "content": value}] for value in CONTENTS),
        *(
            [{**TURN, "content": [part]}]
            for part in (
                *(None, 1, "a", {}, {"type": "text"}, {"type": "text", "text": 1}),
                {"type": "text", "text": PROMPT},
                {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
                {"type": ["text"], "text": "a"},
            )
        ),
        *([{**TURN, "role": role}] for role in ROLES),
        *([{**TURN, key: 1}] for key in ("name", "tool_calls", "type", "weight", "x" * 9000)),
        [{"role": "system", "content": "a"}, TURN, {"role": "assistant", "content": "b"}],
    ),
    "max_completion_tokens": (0, -1, 1, 512, 10**6, 2**63, None, "1"),
    "logprobs": (True, False, None, 1, "yes"),
    "top_logprobs": (0, 1, 25, 26, -1, -2, 10**9, True, None),
    "chat_template_kwargs": (
        *({}, [], 1, None, {"more": "a"}, {"more": [["a"]]}, {"more": "x" * 100_000}, {"": 1}),
        *({"more": "\ud800"}, {"more": float("nan")}, {"messages": []}, {"unread": 1}, {"a b": 1}),
        {"bos_token": "a"},
    ),
    "chat_template": ("{{ 1 }}", "{% for i in range(10**9) %}{% endfor %}", "{% if %}", 1, ""),
    "tools": ([], [{}], [{"type": "function", "function": {"name": "f"}}], 1, "a"),
    "tool_choice": ("none", "auto", "required", {}, 1),
    "add_generation_prompt": (True, False, 1),
    "continue_final_message": (True, False),
    "reasoning_effort": ("low", "x", 1),
    "include_reasoning": (True, False, 1),
    "model": ("chat", "graph-d3-l3", "", None, 1, ["chat"], "x" * 100_000),
    "documents": ([], [{"a": "b"}], 1),
    "return_prompt_text": (True, 1),
    "mm_processor_kwargs": ({"a": 1}, 1),
    "audio": ({"voice": "a", "format": "wav"}, 1),
}
WITHOUT_CHAT = ("prompt", "suffix", "best_of", "echo", "prompt_embeds", "logprobs", "model")
LIMITS_OF = {
    PATH: LIMITS,
    CHAT_PATH: {name: LIMITS[name] for name in LIMITS if name not in WITHOUT_CHAT} | CHAT_LIMITS,
}


def good() -> dict[str, Any]:
    return {"model": "graph-d3-l3", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}


def good_chat() -> dict[str, Any]:
    return {"model": "chat", "messages": [dict(TURN)], "max_tokens": 8, "temperature": 0}


def body_of(rng: Random, path: str = PATH) -> tuple[str, bytes]:
    """Returns what was done to a good body, and the bytes to send."""
    body = (good() if path == PATH else good_chat()) | {"temperature": 1.0, "seed": 7}
    limits = LIMITS_OF[path]
    draw = rng.random()
    if draw < 0.65:
        names = rng.sample(list(limits), rng.choice((1, 1, 2, 3)))
        body |= {name: rng.choice(limits[name]) for name in names}
        return str({name: body[name] for name in names})[:200], dumped(body, rng)
    if draw < 0.8:
        body[rng.choice(list(limits))] = rng.choice(VALUES)()
        return "a value of another kind", dumped(body, rng)
    if draw < 0.9:
        what, value = damaged_value(body, rng)
        return what, dumped(value, rng)
    return damaged_bytes(json.dumps(body).encode(), rng)


class Client:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80

    def post(self, data: bytes, method: str = "POST", path: str = PATH) -> tuple[int, bytes, float]:
        """Returns the status, the body, and the seconds until the first byte."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        try:
            started = time.monotonic()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            first = response.read(1)
            seconds = time.monotonic() - started
            return response.status, first + response.read(), seconds
        finally:
            connection.close()

    def answer(self) -> str:
        """Returns the greedy texts of a good prompt and of good messages."""
        texts = []
        for path, body in ((PATH, good()), (CHAT_PATH, good_chat())):
            status, data, _ = self.post(json.dumps(body).encode(), path=path)
            if status != 200:
                raise RuntimeError(f"a good request to {path} got {status}: {data[:300]!r}")
            choice = json.loads(data)["choices"][0]
            texts.append(choice["text"] if path == PATH else choice["message"]["content"])
        return " | ".join(texts)


def fuzz(seed: int, numbers: Sequence[int], url: str, show: Callable[[str], None] = print) -> Tally:
    tally, client = Tally(), Client(url)
    expected = client.answer()
    for done, number in enumerate(numbers, 1):
        again = f"python -m tests.fuzz requests --seed {seed} --only {number} --url {url}"
        rng = Random(f"{seed}/{number}")
        path = rng.choice((PATH, CHAT_PATH))
        what, data = body_of(rng, path)
        method = rng.choice(("POST",) * 12 + ("GET", "PUT"))
        try:
            status, text, seconds = client.post(data, method, path)
            find = _find(status, text, seconds, method)
        except (OSError, http.client.HTTPException) as error:
            status, seconds, find = 0, 0.0, f"{type(error).__name__}: {error}"
        if done % CHECK_EVERY == 0 or find or status >= 500 or len(numbers) == 1:
            find = find or _engine_lost(client, expected)
        find = f"{find} ({method} {path} {what:.250})" if find else ""
        tally.add("request", f"status {status}", find, seconds, again)
        if find:
            show(tally.last)
    return tally


def _engine_lost(client: Client, expected: str) -> str:
    try:
        text = client.answer()
    except (RuntimeError, OSError, http.client.HTTPException) as error:
        return f"afterwards, {error}"
    return "" if text == expected else f"afterwards, a good request got {text!r}"


def _find(status: int, data: bytes, seconds: float, method: str) -> str:
    text = data.decode("utf-8", "replace")
    if seconds > SLOWEST_S:
        return f"{seconds:.0f} s"
    if status >= 500 or status < 200 or "Traceback (most recent" in text:
        return f"status {status}: {text:.300}"
    if status == 200:
        return _of_answer(text)
    if method != "POST":
        return "" if status == 405 else f"status {status}"
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without a message: {text:.200}"
    if len(message) > LONGEST_MESSAGE:
        return f"a message of {len(message)} characters: {message:.120}"
    return "" if message.strip() else f"status {status} with an empty message"


def _of_answer(text: str) -> str:
    if text.startswith("data: "):
        return "" if "data: [DONE]" in text else f"a stream without an end: {text[-200:]}"
    try:
        answer = json.loads(text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return f"an answer that is not JSON: {text:.200}"
    return "" if answer.get("choices") else f"an answer without choices: {text:.200}"
