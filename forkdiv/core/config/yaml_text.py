"""The YAML of configs and overrides: every value is what the text says, or it is refused.

Scalars follow the core schema of YAML 1.2. YAML 1.1, which PyYAML implements, reads `1:30` as 90,
`010` as 8 and `no` as false; here they are text. Numbers in hexadecimal (0x10) and in scientific
notation (1e-3) are numbers. Keys that are given twice, aliases that expand without end and deep
nesting are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 2**20  # a config of ours has two kilobytes
MAX_NODES = 100_000  # keys and values, with those of aliases
MAX_DEPTH = 32
MAX_DIGITS = 1000  # Python converts up to 4,300 digits

_PREFIX = "tag:yaml.org,2002:"
_TEXT_TAGS = ("!", f"{_PREFIX}str")
_STRUCTURE_TAGS = {None, "!", f"{_PREFIX}map", f"{_PREFIX}seq"}
_CONSTANTS: dict[str, bool | None] = {
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_PREFIXED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class InvalidYaml(ValueError):
    """The text is not YAML that a config may have; the message says why, and on which line."""


@dataclass(frozen=True)
class Document:
    """The value of a text, and the keys whose value is missing (`checkpoint:`), each with its
    line. A missing value is None in `value`."""

    value: Any
    empty: dict[tuple[str, ...], int]
    is_empty: bool  # nothing but comments


@dataclass
class _Open:
    """A mapping or list that is being read, and `merged`, what `<<` puts below its own keys."""

    items: dict[str, Any] | list[Any]
    anchor: str | None
    line: int
    nodes: int = 1
    lines: dict[str, int] = field(default_factory=dict)  # of the keys
    merged: dict[str, Any] = field(default_factory=dict)
    key: str | None = None  # the key whose value comes next


def read(text: str) -> Document:
    """Returns the value of one YAML document. Raises InvalidYaml."""
    try:
        text.encode()
        return _Reader().read(text)
    except UnicodeEncodeError as error:  # an argument in another encoding
        raise InvalidYaml(f"character {error.start + 1} is not UTF-8") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        mark = getattr(error, "problem_mark", None)
        raise InvalidYaml(f"{problem}{_on_line(mark.line + 1) if mark else ''}") from error


def _on_line(line: int) -> str:
    return f" on line {line}"


class _Reader:
    """Builds the value from parser events, without recursion: nesting cannot exhaust the stack."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}  # name: value and its number of nodes
        self._empty: dict[tuple[str, ...], int] = {}
        self._documents = 0
        self._value: Any = None
        self._is_empty = True
        self._nodes = 0

    def read(self, text: str) -> Document:
        for event in _events(text):
            self._take(event, event.start_mark.line + 1)
        return Document(self._value, self._empty, self._is_empty)

    def _take(self, event: Any, line: int) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise InvalidYaml(f"a second document begins{_on_line(line)}; one is allowed")
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._start(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()

    def _start(self, event: Any, line: int) -> None:
        if event.tag not in _STRUCTURE_TAGS:
            raise InvalidYaml(f"the tag {event.tag[:60]} is not supported{_on_line(line)}")
        if len(self._open) >= MAX_DEPTH:
            raise InvalidYaml(f"more than {MAX_DEPTH} levels are nested{_on_line(line)}")
        if self._expects_key():
            raise InvalidYaml(f"a key is a list or a mapping{_on_line(line)}; keys are text")
        items: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(items, event.anchor, line))

    def _end(self) -> None:
        done = self._open.pop()
        items = done.items
        if isinstance(items, dict):
            items = {**done.merged, **items}
        self._put(items, done.nodes, done.anchor, done.line)

    def _alias(self, name: str, line: int) -> None:
        if name not in self._anchors:  # an alias inside its own anchor is not known yet either
            raise InvalidYaml(f"the alias *{name[:60]} has no anchor before it{_on_line(line)}")
        if self._expects_key():
            raise InvalidYaml(f"a key is an alias{_on_line(line)}; keys are text")
        value, nodes = self._anchors[name]
        self._put(value, nodes, None, line)

    def _scalar(self, event: Any, line: int) -> None:
        text, is_plain = event.value, event.style in (None, "")
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            raise InvalidYaml(f"the tag {event.tag[:60]} is not supported{_on_line(line)}")
        if self._expects_key():
            self._key(text, line)
            return
        if not is_plain or event.tag is not None:
            self._is_empty = False
            self._put(text, 1, event.anchor, line)
            return
        if text == "":
            self._empty[tuple(self._path())] = line
        else:
            self._is_empty = False
        self._put(plain_value(text), 1, event.anchor, line)

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].items, dict) and self._top_key is None

    @property
    def _top_key(self) -> str | None:
        return self._open[-1].key

    def _key(self, key: str, line: int) -> None:
        top = self._open[-1]
        if key in top.lines:
            where = ".".join([*self._path(), key])[:120]
            raise InvalidYaml(
                f"the key {where} is given twice, on lines {top.lines[key]} and {line}; "
                "only one of them can be meant"
            )
        top.lines[key] = line
        top.key = key

    def _path(self) -> Iterator[str]:
        for opened in self._open:
            if isinstance(opened.items, list):
                yield str(len(opened.items))
            elif opened.key is not None:
                yield opened.key

    def _put(self, value: Any, nodes: int, anchor: str | None, line: int) -> None:
        """Puts a finished value where it belongs. `nodes` counts what the value consists of."""
        self._nodes += nodes if not isinstance(value, dict | list) else 1
        if anchor is not None:
            self._anchors[anchor] = (value, nodes)
        if not self._open:
            self._value = value
            self._is_empty = self._is_empty and not isinstance(value, dict | list)
            return
        top = self._open[-1]
        top.nodes += nodes
        if max(top.nodes, self._nodes) > MAX_NODES:
            raise InvalidYaml(
                f"more than {MAX_NODES:,} values, with those of aliases{_on_line(line)}"
            )
        if isinstance(top.items, list):
            top.items.append(value)
            return
        assert top.key is not None
        if top.key == "<<":
            self._merge(top, value, line)
        else:
            top.items[top.key] = value
        top.key = None

    @staticmethod
    def _merge(top: _Open, value: Any, line: int) -> None:
        """`<<: *anchor`, or a list of aliases of which the first has precedence."""
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise InvalidYaml(f"<< merges mappings only{_on_line(line)}")
        for part in reversed(parts):
            top.merged |= part


def _events(text: str) -> Iterator[Any]:
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # the first is C
    return iter(yaml.parse(text, Loader=loader))


def plain_value(text: str) -> Any:
    """Returns the value of a scalar without quotes: null, a boolean, a number, or the text."""
    if text == "":
        return None
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
