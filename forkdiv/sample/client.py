"""Sends requests to a sampler: a bounded number in flight, with retries.

A request can crash the engine. Any request that was in flight when the engine ended may be the
cause, so all of them become suspects and are sent again one at a time. The request that crashes the
engine then fails alone, and the others get their responses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from forkdiv.sample.sample_sets import FailedRequest, Request, Response

Ticket = TypeVar("Ticket")


class RetryableFailure(Exception):
    """The request failed, but may succeed when it is sent again."""


class EngineLost(Exception):
    """The engine ended while the request was in flight; a new engine is ready."""


class RequestRejected(Exception):
    """The request would fail in the same way again."""


class CheckpointUnservable(Exception):
    """Every request for this checkpoint would fail in the same way."""


class Channel(Protocol[Ticket]):
    """The connection to a sampler. `receive` waits for the response; it raises the exceptions of
    this module."""

    def send(self, request: Request) -> Ticket: ...

    def receive(self, ticket: Ticket) -> Response: ...


@dataclass
class _Sent(Generic[Ticket]):
    request: Request
    ticket: Ticket
    failures: int  # attempts that failed so far


@dataclass
class _Waiting:
    request: Request
    failures: int


class RequestSender(Generic[Ticket]):
    """Sends the requests for one checkpoint through `channel`: at most `max_in_flight` at a time,
    each again after up to `max_failures` failed attempts."""

    def __init__(self, channel: Channel[Ticket], max_in_flight: int, max_failures: int) -> None:
        self._channel = channel
        self._max_in_flight = max_in_flight
        self._max_failures = max_failures
        self._in_flight: deque[_Sent[Ticket]] = deque()
        self._retries: deque[_Waiting] = deque()
        self._suspects: deque[_Waiting] = deque()
        self._unservable: str | None = None  # why the checkpoint cannot be served

    def results(self, requests: Iterable[Request]) -> Iterator[Response | FailedRequest]:
        """Yields one Response or FailedRequest per request, in any order."""
        new_requests = iter(requests)
        while True:
            while len(self._in_flight) < self._max_in_flight and not self._suspects:
                waiting = self._next_waiting(new_requests)
                if waiting is None:
                    break
                if self._unservable:
                    yield FailedRequest(waiting.request, self._unservable)
                    continue
                self._send(waiting)
            if self._in_flight:
                yield from self._receive(self._add_suspect, alone=False)
            elif self._suspects:
                self._send(self._suspects.popleft())
                yield from self._receive(self._suspects.append, alone=True)
            else:
                return

    def _next_waiting(self, new_requests: Iterator[Request]) -> _Waiting | None:
        if self._retries:
            return self._retries.popleft()
        request = next(new_requests, None)
        return None if request is None else _Waiting(request, 0)

    def _send(self, waiting: _Waiting) -> None:
        ticket = self._channel.send(waiting.request)
        self._in_flight.append(_Sent(waiting.request, ticket, waiting.failures))

    def _receive(
        self, on_engine_lost: Callable[[_Waiting], None], alone: bool
    ) -> Iterator[Response | FailedRequest]:
        sent = self._in_flight.popleft()
        failed = _Waiting(sent.request, sent.failures + 1)
        try:
            yield self._channel.receive(sent.ticket)
        except CheckpointUnservable as error:
            self._unservable = self._message(failed, error)
            yield FailedRequest(sent.request, self._unservable)
        except RequestRejected as error:
            yield FailedRequest(sent.request, self._message(failed, error))
        except (RetryableFailure, EngineLost) as error:
            lost = isinstance(error, EngineLost)
            # a lost engine counts against a request only if no other request was in flight
            limit = failed.failures > self._max_failures and (alone or not lost)
            if limit or (self._unservable is not None):
                yield FailedRequest(sent.request, self._message(failed, error))
            elif lost:
                on_engine_lost(failed)
            else:
                self._retries.append(failed)

    def _add_suspect(self, waiting: _Waiting) -> None:
        self._suspects.append(_Waiting(waiting.request, 0))

    @staticmethod
    def _message(failed: _Waiting, error: Exception) -> str:
        attempts = f"{failed.failures} attempt{'s' * (failed.failures > 1)}"
        return (
            f"sampling failed for problem {failed.request.problem.id} after {attempts}; "
            f"last error: {error}"
        )
