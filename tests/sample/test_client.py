"""Requests in flight: bounded, each answered or failed once, a poisoned one alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.records import Problem
from forkdiv.sample.client import (
    CheckpointUnservable,
    EngineLost,
    RequestRejected,
    RequestSender,
    RetryableFailure,
)
from forkdiv.sample.sample_sets import FailedRequest, Request, Response

SAMPLE = ((1,), "a", "stop")


@dataclass
class ToyChannel:
    """An engine that whatever `kills` names ends for all in flight; `fails` says what a request
    meets at its nth try."""

    kills: frozenset[str] = frozenset()
    fails: Callable[[str, int], Exception | None] = lambda name, tried: None
    flying: list[str] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)
    most: int = 0
    number: int = 0

    def send(self, request: Request) -> tuple[int, Request]:
        self.number += 1
        self.flying.append(request.problem.id)
        self.tries[request.problem.id] += 1
        self.most = max(self.most, len(self.flying))
        if request.problem.id in self.kills:
            self.gone |= {self.number - back for back in range(len(self.flying))}
        return self.number, request

    def receive(self, ticket: tuple[int, Request]) -> Response:
        number, request = ticket
        name = request.problem.id
        self.flying.remove(name)
        if number in self.gone:
            raise EngineLost("the actor died")
        if error := self.fails(name, self.tries[name]):
            raise error
        return Response(request, [SAMPLE])


def requests(count: int) -> list[Request]:
    return [Request(Problem(f"p{i}", "test", "", "", {}), 0, 1, i) for i in range(count)]


def answered(
    line: ToyChannel, count: int, max_in_flight: int = 4
) -> dict[str, Response | FailedRequest]:
    sender = RequestSender(line, max_in_flight, max_failures=2)
    found = list(sender.results(requests(count)))
    by_name = {one.request.problem.id: one for one in found}
    assert len(found) == len(by_name) == count
    assert line.most <= max_in_flight
    return by_name


def failed(found: dict[str, Response | FailedRequest]) -> list[str]:
    return [name for name, one in found.items() if isinstance(one, FailedRequest)]


def test_no_more_are_in_flight_than_allowed() -> None:
    line = ToyChannel()
    answered(line, 50, max_in_flight=7)
    assert line.most == 7


@given(st.sets(st.integers(0, 29), max_size=4), st.integers(1, 9))
def test_poisoned_requests_fail_alone(poisoned: set[int], max_in_flight: int) -> None:
    names = frozenset(f"p{i}" for i in poisoned)
    found = answered(ToyChannel(kills=names), 30, max_in_flight)
    assert set(failed(found)) == names


def test_a_poisoned_request_is_tried_alone_as_often_as_the_limit_says() -> None:
    line = ToyChannel(kills=frozenset({"p3"}))
    (lost,) = (one for one in answered(line, 10).values() if isinstance(one, FailedRequest))
    assert line.tries["p3"] == 1 + 3
    assert "problem p3 after 3 attempts" in lost.message and "the actor died" in lost.message


def test_every_request_is_answered_when_an_engine_ends_once() -> None:
    ended: list[str] = []

    def fails(name: str, tried: int) -> Exception | None:
        if name == "p5" and not ended:
            ended.append(name)
            return EngineLost("killed")
        return None

    assert failed(answered(ToyChannel(fails=fails), 20)) == []


def test_a_failed_request_is_tried_again_up_to_the_limit() -> None:
    line = ToyChannel(fails=lambda name, tried: RetryableFailure("busy") if name == "p1" else None)
    assert failed(answered(line, 5)) == ["p1"]
    assert line.tries["p1"] == 3
    twice = ToyChannel(fails=lambda name, tried: RetryableFailure("busy") if tried <= 2 else None)
    assert failed(answered(twice, 5)) == []


def test_a_rejected_request_is_not_retried() -> None:
    line = ToyChannel(
        fails=lambda name, tried: RequestRejected("too long") if name == "p1" else None
    )
    found = answered(line, 5)
    assert failed(found) == ["p1"] and line.tries["p1"] == 1
    lost = found["p1"]
    assert isinstance(lost, FailedRequest) and lost.message.endswith("too long")


def test_an_unservable_checkpoint_fails_the_following_requests_without_sending_them() -> None:
    line = ToyChannel(fails=lambda name, tried: CheckpointUnservable("not proved"))
    found = answered(line, 40)
    assert len(failed(found)) == 40 and sum(line.tries.values()) <= 8
    assert all(
        "not proved" in one.message for one in found.values() if isinstance(one, FailedRequest)
    )


@pytest.mark.parametrize("count", [0, 1])
def test_few_requests_are_answered_too(count: int) -> None:
    assert len(answered(ToyChannel(), count)) == count
