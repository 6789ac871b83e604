"""Checks of HTTP requests that vLLM's own parsing leaves out, or answers with the end of its
engine."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from forkdiv.sample.replies import RequestRefused
from forkdiv.sample.token_ids import UnanswerableRequest, check_ids

MAX_SAMPLES = 4096  # per prompt, the limit of `eval.samples`


def validated(parse: Callable[[dict[str, Any]], Any], body: Mapping[str, Any]) -> Any:
    """Returns the body as a request of vLLM's, parsed by `parse`. Raises RequestRefused."""
    from pydantic import ValidationError
    from vllm.exceptions import VLLMClientError

    try:
        return parse(dict(body))
    except ValidationError as error:
        problems = error.errors(include_url=False)[:3]
        raise RequestRefused(400, "; ".join(map(_invalid_field, problems))) from error
    except VLLMClientError as error:
        raise RequestRefused(400, str(error)) from error
    except (AttributeError, TypeError, LookupError) as error:
        # vLLM's own validators read some fields before their types are checked
        wrong = f"an argument has a value of another type than vLLM's API allows ({error})"
        raise RequestRefused(400, wrong) from error


def check_known(request: Any, without: Container[str] = ()) -> None:
    """Raises RequestRefused for arguments that vLLM does not have and would ignore. `without` are
    arguments that are refused elsewhere."""
    if request.model_extra:
        unknown = ", ".join(sorted(request.model_extra))
        known = (name for name in type(request).model_fields if name not in without)
        allowed = ", ".join(sorted(known))
        raise RequestRefused(400, f"unknown arguments: {unknown}; allowed: {allowed}")


def check_samples(n: int | None) -> None:
    """Raises RequestRefused for a number of samples out of range."""
    if n is not None and not 1 <= n <= MAX_SAMPLES:
        raise RequestRefused(400, f"n must be 1 to {MAX_SAMPLES}, got {n}", "n")


def check_token_ids(request: Any, vocabulary: int) -> None:
    """Raises RequestRefused for a token id, or a rank, beyond the vocabulary."""
    try:
        _check_prompt_ids(getattr(request, "prompt", None), vocabulary)
        for name in ("stop_token_ids", "allowed_token_ids", "logprob_token_ids"):
            check_ids(getattr(request, name) or (), vocabulary, name)
        biased = [key for key in request.logit_bias or () if key.lstrip("-").isdecimal()]
        check_ids(map(int, biased), vocabulary, "logit_bias")
    except UnanswerableRequest as error:
        raise RequestRefused(400, str(error)) from error
    ranks = (request.vllm_xargs or {}).get("first_tokens")
    if isinstance(ranks, int) and ranks > vocabulary:
        raise RequestRefused(
            400,
            f"vllm_xargs.first_tokens is larger than the vocabulary: got {ranks}; allowed: at most "
            f"{vocabulary}; lower it",
        )


def has_grammar(request: Any) -> bool:
    """Whether the response must follow a grammar."""
    form = request.response_format
    return bool(request.structured_outputs) or (form is not None and form.type != "text")


def _check_prompt_ids(prompt: Any, vocabulary: int) -> None:
    items = prompt if isinstance(prompt, list) else []
    check_ids((item for item in items if isinstance(item, int)), vocabulary, "prompt")
    for item in items:
        if isinstance(item, list):
            check_ids(item, vocabulary, "prompt")


def _invalid_field(error: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    return f"{field}: {error['msg']}, got {error['input']!r:.80}"
