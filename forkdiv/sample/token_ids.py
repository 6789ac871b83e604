"""Token ids in requests: one beyond the vocabulary would end vLLM's engine for every request."""

from __future__ import annotations

from collections.abc import Iterable


class UnanswerableRequest(Exception):
    """vLLM rejects the request, for example because its prompt is too long."""


def check_ids(ids: Iterable[int], vocabulary: int, where: str) -> None:
    """Raises UnanswerableRequest for an id that is negative, or `vocabulary` or more."""
    for id in ids:
        if not 0 <= id < vocabulary:
            raise UnanswerableRequest(
                f"token id {id} in {where} is outside the vocabulary of {vocabulary}; allowed: 0 "
                f"to {vocabulary - 1}; correct it"
            )
