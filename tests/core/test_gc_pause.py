"""A process's start is not slowed by collecting what it has just made."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from forkdiv.core.gc_pause import gc_paused


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def made(count: int = 50_000) -> list[list[int]]:
    return [[i] for i in range(count)]


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_nothing_is_collected_in_the_block_and_its_objects_are_left_alone_after_it() -> None:
    before, frozen = collections(), gc.get_freeze_count()
    with gc_paused():
        kept = made()
        assert collections() == before
    assert gc.get_freeze_count() >= frozen + len(kept)
    made()
    assert collections() > before


def test_an_error_in_the_block_lets_the_collector_go_on() -> None:
    with pytest.raises(ImportError), gc_paused():
        raise ImportError("no such module")
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
