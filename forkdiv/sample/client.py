"""Requests on their way to a sampler: a bounded number at once, failed ones tried again, and one
that ends the engine found out and left behind.

Whoever was in flight when an engine ended may have ended it. All of them are suspects and go one
at a time from then on, so that a poisoned request fails alone and its neighbours are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from forkdiv.sample.sample_sets import FailedRequest, Request, Response

Ticket = TypeVar("Ticket")


class RetryableFailure(Exception):
    """The request failed; it may succeed on another try."""


class EngineLost(Exception):
    """The engine ended while the request was in it; the next one is ready."""


class RequestRejected(Exception):
    """The request fails the same way again."""


class CheckpointUnservable(Exception):
    """Every request for this checkpoint fails the same way."""


class Channel(Protocol[Ticket]):
    """Where requests go. `receive` waits for an answer, or raises one of the above."""

    def send(self, request: Request) -> Ticket: ...

    def receive(self, ticket: Ticket) -> Response: ...


@dataclass
class _Sent(Generic[Ticket]):
    request: Request
    ticket: Ticket
    failures: int


@dataclass
class _Waiting:
    request: Request
    failures: int


class InFlight(Generic[Ticket]):
    """Sends the requests for one checkpoint; yields one Response or FailedRequest per request, in
    any order."""

    def __init__(self, channel: Channel[Ticket], at_once: int, most_failures: int) -> None:
        self._channel = channel
        self._at_once = at_once
        self._most_failures = most_failures
        self._flying: deque[_Sent[Ticket]] = deque()
        self._again: deque[_Waiting] = deque()
        self._suspects: deque[_Waiting] = deque()
        self._doom: str | None = None

    def answers(self, requests: Iterable[Request]) -> Iterator[Response | FailedRequest]:
        coming = iter(requests)
        while True:
            while len(self._flying) < self._at_once and not self._suspects:
                following = self._following(coming)
                if following is None:
                    break
                if self._doom:
                    yield FailedRequest(following.request, self._doom)
                    continue
                self._send(following)
            if self._flying:
                yield from self._receive(self._lost, alone=False)
            elif self._suspects:
                self._send(self._suspects.popleft())
                yield from self._receive(self._again_suspect, alone=True)
            else:
                return

    def _following(self, coming: Iterator[Request]) -> _Waiting | None:
        if self._again:
            return self._again.popleft()
        request = next(coming, None)
        return None if request is None else _Waiting(request, 0)

    def _send(self, one: _Waiting) -> None:
        self._flying.append(_Sent(one.request, self._channel.send(one.request), one.failures))

    def _receive(
        self, when_gone: Callable[[_Waiting], None], alone: bool
    ) -> Iterator[Response | FailedRequest]:
        sent = self._flying.popleft()
        failed = _Waiting(sent.request, sent.failures + 1)
        try:
            yield self._channel.receive(sent.ticket)
        except CheckpointUnservable as error:
            self._doom = self._message(failed, error)
            yield FailedRequest(sent.request, self._doom)
        except RequestRejected as error:
            yield FailedRequest(sent.request, self._message(failed, error))
        except (RetryableFailure, EngineLost) as error:
            gone = isinstance(error, EngineLost)
            # among others a lost engine is nobody's fault yet; alone it is this one's
            limit = failed.failures > self._most_failures and (alone or not gone)
            if limit or (self._doom is not None):
                yield FailedRequest(sent.request, self._message(failed, error))
            elif gone:
                when_gone(failed)
            else:
                self._again.append(failed)

    def _lost(self, one: _Waiting) -> None:
        self._suspects.append(_Waiting(one.request, 0))

    def _again_suspect(self, one: _Waiting) -> None:
        self._suspects.append(one)

    @staticmethod
    def _message(failed: _Waiting, error: Exception) -> str:
        attempts = f"{failed.failures} attempt{'s' * (failed.failures > 1)}"
        return (
            f"sampling failed for problem {failed.request.problem.id} after {attempts}; "
            f"last error: {error}"
        )
