"""Leases: one holder at a time, whatever clocks say, whoever stops, dies or is slow."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.remote.lease import MARGIN, RESERVE, Lease
from forkdiv.core.remote.objects import Stored

TTL, KEY = 60.0, "leases/train-0.json"


@dataclass
class World:
    """Storage with conditional writes, and the true time. A request takes `there` seconds until it
    has its effect, and `back` seconds more until it is answered."""

    now: float = 1000.0
    there: float = 0.0
    back: float = 0.0
    objects: dict[str, Stored] = field(default_factory=dict)
    versions: int = 0

    def _effect(self) -> None:
        self.now += self.there

    def read(self, key: str) -> Stored | None:
        self._effect()
        found = self.objects.get(key)
        self.now += self.back
        return found

    def create(self, key: str, data: bytes) -> str | None:
        self._effect()
        return self._written(key, data, key not in self.objects)

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        self._effect()
        found = self.objects.get(key)
        return self._written(key, data, found is not None and found.etag == etag)

    def delete(self, keys: list[str]) -> None:
        self._effect()
        for key in keys:
            self.objects.pop(key, None)
        self.now += self.back

    def _written(self, key: str, data: bytes, holds: bool) -> str | None:
        if holds:
            self.versions += 1
            self.objects[key] = Stored(data, f"v{self.versions}")
        version = f"v{self.versions}"
        self.now += self.back
        return version if holds else None


def lease(world: World, root: str, off: float = 0.0) -> Lease:
    return Lease(world, KEY, root, TTL, lambda: world.now + off)


def test_one_of_two_gets_it_and_the_other_after_its_release() -> None:
    world = World()
    first, second = lease(world, "a"), lease(world, "b")
    assert first.acquire() and not second.acquire()
    first.release()
    assert second.acquire() and not first.held


def test_a_holder_that_renews_is_never_taken_over() -> None:
    world = World()
    first, second = lease(world, "a"), lease(world, "b")
    assert first.acquire()
    for _ in range(100):
        world.now += TTL / 4
        assert first.renew() and not second.acquire()


@pytest.mark.parametrize("off", [-60.0, 0.0, 60.0, 3600.0])
def test_a_dead_holder_is_taken_over_after_the_time_that_its_waiter_measured(off: float) -> None:
    world = World()
    first, second = lease(world, "a"), lease(world, "b", off)
    assert first.acquire() and not second.acquire()
    world.now += TTL * MARGIN - 1
    assert not second.acquire()
    world.now += 2
    assert second.acquire() and not first.held and not first.renew()


def test_a_waiter_that_comes_late_waits_as_long() -> None:
    """It cannot know how old the version is that it sees first."""
    world = World()
    assert lease(world, "a").acquire()
    world.now += 10 * TTL
    second = lease(world, "b")
    assert not second.acquire()


def test_a_dead_holder_of_the_same_folder_is_taken_over_at_once() -> None:
    world = World()
    assert lease(world, "a").acquire() and lease(world, "a").acquire()


def test_a_holder_that_was_stopped_knows_that_it_may_have_lost_its_lease() -> None:
    world = World()
    first = lease(world, "a")
    assert first.acquire() and first.held
    world.now += TTL + 1
    assert not first.held
    assert first.renew() and first.held, "nobody has taken it over: it goes on"


def test_a_damaged_lease_is_taken_over_as_that_of_a_dead_holder() -> None:
    world = World(objects={KEY: Stored(b"\xff[", "v0")})
    first = lease(world, "a")
    assert not first.acquire()
    world.now += TTL * MARGIN + 1
    assert first.acquire()


ACTIONS = st.tuples(
    st.sampled_from(["acquire"] * 4 + ["renew", "release", "die"]),
    st.sampled_from([0, 1, 0, 1, 2]),
    st.sampled_from([0.0, 1.0, 25.0, 50.0, 80.0]),  # seconds before it
    # slower than the reserve, a request to delete could reach the storage after a take-over
    st.sampled_from([0.0] * 6 + [1.0, TTL * RESERVE * 0.9]),
    st.sampled_from([0.0] * 6 + [1.0, 70.0]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.lists(st.floats(-90, 90), min_size=3, max_size=3))
def test_no_two_processes_hold_a_lease_at_once(
    actions: list[tuple[str, int, float, float, float]], clocks: list[float]
) -> None:
    """Three hosts, whose clocks are off by up to 90 s, stop, die and start again; requests are
    slow on their way there and back."""
    world = World()
    hosts = [lease(world, str(i), off) for i, off in enumerate(clocks)]
    for action, i, before, world.there, world.back in actions:
        world.now += before
        if action == "acquire" and not hosts[i].held:
            hosts[i].acquire()
        elif action == "renew":
            hosts[i].renew()
        elif action == "release":
            hosts[i].release()
        elif action == "die":
            hosts[i] = lease(world, str(i), clocks[i])
        assert sum(host.held for host in hosts) <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.lists(st.floats(-90, 90), min_size=3, max_size=3))
def test_whatever_happened_a_process_that_waits_gets_the_lease(
    actions: list[tuple[str, int, float, float, float]], clocks: list[float]
) -> None:
    world = World()
    hosts = [lease(world, str(i), off) for i, off in enumerate(clocks)]
    for action, i, before, world.there, world.back in actions:
        world.now += before
        _ = hosts[i].acquire() if action == "acquire" else hosts[i].renew()
    world.there = world.back = 0.0
    waiter, until = lease(world, "waiter", 60.0), world.now + TTL * MARGIN + 5
    while not waiter.acquire():
        world.now += 1.0
        assert world.now < until
