"""`forkdiv settings` and `forkdiv configs`: what there is to set, and to start from."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from forkdiv.core.config import reference, shipped
from forkdiv.core.config.reference import Section, Setting
from forkdiv.core.errors import refuse

if TYPE_CHECKING:
    from forkdiv.core.hub_names import DatasetName


def settings() -> list[Setting]:
    """Every setting of every section."""
    return [one for section in reference.sections() for one in section.settings]


def sections() -> list[str]:
    """The names of all sections."""
    return [one.name for one in reference.sections() if one.name]


def show_settings(name: str | None, format: str) -> str:
    """The settings of a section, or all. Raises UserError for an unknown name or format."""
    shown = {"text": _as_text, "markdown": _as_markdown, "json": _as_json}
    if format not in shown:
        raise refuse("unknown format", format, ", ".join(shown), "correct --format")
    return shown[format](reference.select_sections(name))


def show_configs() -> str:
    """The named configs, each with the question it answers."""
    named = {name: shipped.question(path) for name, path in shipped.configs().items()}
    lines = [part for name, text in named.items() for part in (name, *_wrapped(text, "    "))]
    how = "Use one by its name, and change what you like: forkdiv study --config quickstart "
    where = f"The files are in {shipped.CONFIGS}."
    return "\n".join([*lines, "", *_wrapped(how + "eval.samples=128", ""), *_wrapped(where, "")])


def show_benchmarks() -> str:
    """The benchmarks, each with what it asks, its grader and where its data is."""
    from forkdiv.benchmarks.registry import BENCHMARKS

    lines = []
    for name in sorted(BENCHMARKS.names()):
        benchmark = BENCHMARKS.get(name)
        rows = " or ".join(f"{count:,}" for count in benchmark.rows)
        shots = f"; shots from {_place(benchmark.shots)}" if benchmark.shots else ""
        source = f"{_place(benchmark.source)}{shots}" if benchmark.source else "a file of yours"
        parts = [
            f"{benchmark.about}{f' ({rows} problems)' if rows else ''}",
            f"grader {benchmark.grader}; data {source}",
            f"licence {benchmark.licence}; {benchmark.link}",
        ]
        lines += [name, *(line for part in parts for line in _wrapped(part, "    "))]
    how = "forkdiv compare --base DIR --tuned DIR --data FILE --as gsm8k"
    return "\n".join([*lines, "", *_wrapped(f"Measure on a file in its form: {how}", "")])


def _place(name: DatasetName) -> str:
    return str(replace(name, revision=None))


def _width() -> int:
    return min(100, shutil.get_terminal_size((80, 24)).columns)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _as_text(chosen: Iterable[Section]) -> str:
    return "\n\n".join(_section_text(one) for one in chosen)


def _section_text(section: Section) -> str:
    head = _wrapped(f"{section.name or reference.TOP_LEVEL}: {section.meaning}", "")
    items = ["\n".join(_setting_text(one)) for one in section.settings]
    return "\n\n".join(["\n".join(head), *items])


def _setting_text(one: Setting) -> list[str]:
    unit = f" [{one.unit}]" if one.unit else ""
    return [
        f"  {one.key} = {one.default}",
        *_wrapped(f"{one.type}{unit}", "      "),
        *_wrapped(one.meaning, "      "),
    ]


def _as_markdown(chosen: Iterable[Section]) -> str:
    return "\n\n".join(_section_markdown(one) for one in chosen)


def _section_markdown(section: Section) -> str:
    rows = [
        f"| `{one.key}` | {_cell(one.type)} | `{_cell(one.default)}` | {one.unit} "
        f"| {_cell(one.meaning)} |"
        for one in section.settings
    ]
    head = ["| Setting | Type | Default | Unit | Meaning |", "| --- | --- | --- | --- | --- |"]
    return "\n".join(
        [f"## {section.name or reference.TOP_LEVEL}", "", section.meaning, "", *head, *rows]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _as_json(chosen: Iterable[Section]) -> str:
    rows = [asdict(one) for section in chosen for one in section.settings]
    return json.dumps(rows, indent=1, ensure_ascii=False)
