"""Damaged inputs of every kind: 10,000 at the readers, 500 commands, 1,000 requests to two routes.

The seed is today's unless FORKDIV_FUZZ_SEED is set; FORKDIV_FUZZ_SHARE=0.1 runs a tenth of each.
Every find names the command that shows it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.checkpoints_tokens import with_template
from tests.fuzz.case import Tally
from tests.soak.served import served

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

SEED = int(os.environ.get("FORKDIV_FUZZ_SEED") or f"{datetime.now(UTC):%Y%m%d}")
SHARE = float(os.environ.get("FORKDIV_FUZZ_SHARE") or 1)
READERS, COMMANDS, REQUESTS = 10_000, 500, 1_000


def numbers(count: int) -> range:
    return range(max(1, round(count * SHARE)))


def require_no_finds(tally: Tally) -> None:
    print(f"seed {SEED}\n{tally.report()}")
    assert not tally.finds, "\n".join(tally.finds)


@pytest.fixture(scope="module")
def route(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the shipped base, and of the same with a chat template."""
    from tests.fuzz.requests import CHAT_TEMPLATE

    folder = tmp_path_factory.mktemp("served")
    chat = with_template(folder / "chat", CHAT_TEMPLATE)
    with served(folder, "graph-d3-l3", chat.path) as url:
        yield url


def test_damaged_inputs_are_refused_in_one_line_by_the_readers() -> None:
    from tests.fuzz import readers

    require_no_finds(readers.fuzz(SEED, numbers(READERS)))


def test_commands_with_damaged_files_and_settings_end_with_one_line_and_a_status() -> None:
    from tests.fuzz import commands

    require_no_finds(commands.fuzz(SEED, numbers(COMMANDS)))


def test_damaged_requests_are_refused_and_the_engine_stays(route: str) -> None:
    from tests.fuzz import requests

    require_no_finds(requests.fuzz(SEED, numbers(REQUESTS), route))
