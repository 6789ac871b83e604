"""What holds of the pages as a whole: links lead somewhere, every verb is explained, and the
list of settings is that of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from forkdiv.cli.verbs import VERBS
from tests.docs.pages import NAMES, ROOT, anchor, headings, links
from tests.test_layers import MAY_IMPORT

MOST_LINES = 150
GUIDE = [name for name in NAMES if name.startswith("docs/")]


@pytest.mark.parametrize("page", NAMES)
def test_every_link_inside_the_repository_leads_somewhere(page: str) -> None:
    wrong = [target for target in links(page) if not _leads_somewhere(page, target)]
    assert wrong == []


def _leads_somewhere(page: str, target: str) -> bool:
    """Links to other sites are not looked at."""
    if target.startswith(("http://", "https://")):
        return True
    path, _, heading = target.partition("#")
    there = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not there.is_relative_to(ROOT) or not there.exists():
        return False
    if not heading:
        return True
    name = there.relative_to(ROOT).as_posix()
    return name in NAMES and heading in [anchor(one) for one in headings(name)]


def test_a_broken_link_would_be_seen() -> None:
    assert _leads_somewhere("README.md", "docs/results.md#modes")
    assert not _leads_somewhere("README.md", "docs/results.md#no-such-heading")
    assert not _leads_somewhere("README.md", "docs/no-such-page.md")
    assert anchor("What `plan` takes: steps, memory") == "what-plan-takes-steps-memory"


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


def test_every_page_is_in_the_sites_list_and_in_the_readme() -> None:
    index = (ROOT / "docs/index.md").read_text()
    listed = {f"docs/{line}.md" for line in index.splitlines()} | {"docs/index.md"}
    assert set(GUIDE) <= listed
    assert set(GUIDE) - {"docs/index.md"} <= set(links("README.md"))


def test_every_verb_is_in_the_table_of_commands() -> None:
    text = (ROOT / "docs/commands.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}`" not in text] == []


@pytest.mark.parametrize("config", sorted((ROOT / "jobs/configs").glob("*.yaml")), ids=str)
def test_every_named_config_is_in_the_table_of_studies(config: Path) -> None:
    assert f"`{config.stem}`" in (ROOT / "docs/studies.md").read_text()


def test_the_table_of_rooms_is_the_rule_that_the_layer_test_holds() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \|(.*)\|$",
        _section("docs/architecture.md", "The rooms"),
        re.MULTILINE,
    )
    direct = {room: re.findall(r"`(\w+)`", others) for room, others in rows}
    assert {room: _reached(room, direct) for room in direct} == {
        room: set(others) for room, others in MAY_IMPORT.items()
    }


def _section(page: str, heading: str) -> str:
    return (ROOT / page).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]


def _reached(room: str, direct: dict[str, list[str]]) -> set[str]:
    return {*direct[room]}.union(*(_reached(other, direct) for other in direct[room]))


def test_the_page_of_settings_is_that_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "docs/write_configuration.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
