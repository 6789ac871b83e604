"""README.md, cluster/README.md and the pages of docs/: their code blocks, links and headings.

Every block of commands (```bash or ```python) says in a comment right before it how it is tested:

    <!-- run -->                             `make test` runs it
    <!-- run with: dataset.examples=20 -->   the same, with these settings added to its commands
    <!-- soak with: eval.problems=8 -->      `make soak` runs it, after those before it on the page
    <!-- soak in background -->              the same; it goes on until the page's last block ended
    <!-- not run: it needs a GPU -->         nothing runs it, and why

A block of any language may be a file that the commands of its page read:

    <!-- file: problems.jsonl -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "cluster/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
CODE = ("bash", "python")  # what must say how it is tested

How = Literal["run", "soak", "not run", "file"]
_MARKER = re.compile(r"<!-- (run|soak|not run|file)( in background)?(?: with)?(?:: (.+?))? -->")


@dataclass(frozen=True)
class Block:
    """A fenced code block. `how` is None where no marker stands before it; `detail` is what
    follows the marker's colon: added settings, the reason, or the name of the file."""

    page: str
    line: int
    language: str
    text: str
    how: How | None
    detail: str
    background: bool

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def added(self) -> Sequence[str]:
        """The settings that a test adds to each command."""
        return self.detail.split() if self.how in ("run", "soak") else ()

    def commands(self) -> list[str]:
        """The logical lines: continued ones joined, comments and empty ones left out."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s)#\s.*$", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line]


@cache
def blocks(page: str) -> tuple[Block, ...]:
    return tuple(_blocks(page))


def all_blocks() -> list[Block]:
    return [block for page in NAMES for block in blocks(page)]


def _blocks(page: str) -> Iterator[Block]:
    before: Token | None = None
    for token in tokens(page):
        if token.type == "fence" and token.map:
            found = _MARKER.fullmatch(before.content.strip()) if before else None
            how, background, detail = found.groups() if found else (None, None, None)
            language = token.info.strip()
            line = token.map[0] + 1
            yield Block(
                page, line, language, token.content, cast(How, how), detail or "", bool(background)
            )
        before = token if token.type == "html_block" else None


def headings(page: str) -> list[str]:
    found = tokens(page)
    return [text.content for start, text in pairwise(found) if start.type == "heading_open"]


def anchor(heading: str) -> str:
    """As GitHub and MyST-Parser name a heading in a link."""
    plain = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(page: str) -> list[str]:
    """The targets of all links and pictures."""
    inline = (child for token in tokens(page) for child in token.children or ())
    targets = (str(one.attrGet("href") or one.attrGet("src") or "") for one in inline)
    return [target for target in targets if target]


@cache
def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())
