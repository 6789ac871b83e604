"""Damage to bytes, to JSON values and to paths, drawn from a random generator."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

LONG_TEXT = 200_000  # characters
DEEP = "@deep@"  # in JSON, becomes a list of 5,000 levels, which Python's encoder cannot write
BIG_FILE = 2**31  # bytes of a file that has no blocks on the disk

# values of another type or at a limit; called for each use, since some are large
VALUES: tuple[Callable[[], Any], ...] = (
    *(lambda value=value: value for value in (None, True, False, "", " ", 0, 1, -1, 2, 0.5, -0.0)),
    lambda: 2**31,
    lambda: 2**63,
    lambda: -(2**63),
    lambda: 10**400,
    lambda: 1e308,
    lambda: 5e-324,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: float("-inf"),
    list,
    dict,
    lambda: [None],
    lambda: [[]],
    lambda: {"": None},
    lambda: {"kind": "file"},
    lambda: "x" * LONG_TEXT,
    lambda: "nan",
    lambda: "\ud800",
    lambda: "\ufeff\u202eabc\u200b",
    lambda: "a\0b",
    lambda: "a\nb\r\nc",
    lambda: "🙂" * 50,
    lambda: "../../etc/passwd",
    lambda: "/dev/zero",
    lambda: "{{ 1 }}{% for x in y %}",
    lambda: "９９",
    lambda: nested(200, []),
    lambda: DEEP,
    lambda: list(range(3_000)),
    lambda: {f"k{n}": n for n in range(500)},
)
BYTES = (b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"{", b"[", b",", b"\\u")


def nested(depth: int, innermost: Any) -> Any:
    value = innermost
    for _ in range(depth):
        value = [value] if isinstance(innermost, list) else {"a": value}
    return value


def damaged_bytes(data: bytes, rng: Random) -> tuple[str, bytes]:
    """Returns what was done, and the bytes after one to three changes."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name, data = rng.choice(CHANGES)(data, rng)
        done.append(name)
    return ", ".join(done), data


def _flip(data: bytes, rng: Random) -> tuple[str, bytes]:
    if not data:
        return "nothing", data
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    return f"bit {bit} of byte {at} flipped", (
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    )


def _truncate(data: bytes, rng: Random) -> tuple[str, bytes]:
    end = rng.choice((0, 1, len(data) // 2, max(len(data) - 1, 0), rng.randrange(len(data) + 1)))
    return f"truncated to {end} bytes", data[:end]


def _repeat(data: bytes, rng: Random) -> tuple[str, bytes]:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((1, 10, 1000))]
    times = rng.choice((1, 2, 50))
    return f"byte {start} and {len(part)} more repeated", data[:start] + part * times + data[start:]


def _remove(data: bytes, rng: Random) -> tuple[str, bytes]:
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 10, 100))
    return f"{size} bytes removed at {start}", data[:start] + data[start + size :]


def _insert(data: bytes, rng: Random) -> tuple[str, bytes]:
    at = rng.choice((0, len(data), rng.randrange(len(data) + 1)))
    part = rng.choice(BYTES) * rng.choice((1, 1, 1, 5_000))
    return f"{part[:4]!r} inserted at {at}", data[:at] + part + data[at:]


def _swap_lines(data: bytes, rng: Random) -> tuple[str, bytes]:
    lines = data.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return f"lines {a} and {b} swapped", b"\n".join(lines)


def _encode(data: bytes, rng: Random) -> tuple[str, bytes]:
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "cp037"))
    text = data.decode("utf-8", "replace")
    return f"written as {encoding}", text.encode(encoding, "replace")


CHANGES = (_flip, _flip, _truncate, _repeat, _remove, _insert, _swap_lines, _encode)


def damaged_value(value: Any, rng: Random) -> tuple[str, Any]:
    """Returns what was done, and a copy of a JSON value with one to three changes."""
    value = copy.deepcopy(value)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return "replaced", rng.choice(VALUES)()
        container, key = rng.choice(places)
        done.append(_change(container, key, rng))
    return ", ".join(done), value


def _places(value: Any, depth: int = 0) -> Any:
    """Yields container and key of every value inside."""
    if depth > 20:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list) and len(inner) < 1000:
            yield from _places(inner, depth + 1)


HOW = ("value", "value", "nudge", "nudge", "nudge", "remove", "rename", "swap", "add", "wrap")
# of the same type, so that a value is not refused for its type
WHOLE = (0, 1, -1, 2, 3, 7, 100, 10**4, 2**31, 2**63, 10**30)
FRACTIONS = (0.0, 1.0, -1.0, 0.5, 1.5, 1e-9, 1e308, -1e308, 5e-324, float("nan"), float("inf"))


def _change(container: Any, key: Any, rng: Random) -> str:
    how = rng.choice(HOW)
    if how == "nudge" and isinstance(container[key], int | float):
        whole = isinstance(container[key], int) and not isinstance(container[key], bool)
        container[key] = rng.choice(WHOLE if whole else FRACTIONS)
        return f"{str(key)[:60]} = {container[key]!r:.60}"
    if how in ("value", "nudge"):
        container[key] = rng.choice(VALUES)()
        return f"{str(key)[:60]} = {container[key]!r:.60}"
    if how == "remove":
        del container[key]
        return f"{key} removed"
    if how == "rename" and isinstance(container, dict):
        name = rng.choice((f"{key}_", key.upper(), key[::-1], "", "kind", "x" * 3000, "\ud83d"))
        container[name] = container.pop(key)
        return f"{key} renamed to {name!r:.40}"
    if how == "swap":
        other = rng.choice(
            list(container if isinstance(container, dict) else range(len(container)))
        )
        container[key], container[other] = container[other], container[key]
        return f"{key} and {other} swapped"
    if how == "add" and isinstance(container, list):
        container.append(rng.choice(VALUES)())
        return f"{container[-1]!r:.60} added"
    container[key] = {"value": container[key]} if rng.random() < 0.5 else [container[key]]
    return f"{key} wrapped"


def dumped(value: Any, rng: Random) -> bytes:
    """Returns JSON of the value. Sometimes a key is written twice."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
    if isinstance(value, dict) and value and rng.random() < 0.03:
        text = f'{{"{next(iter(value))}": 1, {text[1:]}'
    text = text.replace(f'"{DEEP}"', "[" * 5_000 + "]" * 5_000)
    return text.encode("utf-8", "surrogatepass")


def replaced(path: Path, rng: Random) -> str:
    """Puts something else in the place of a file; returns what. The file may be missing."""
    path.unlink(missing_ok=True)
    what = rng.choice(
        ("nothing", "fifo", "folder", "zero", "null", "loop", "dangling", "big", "self")
    )
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what in ("zero", "null"):
        path.symlink_to(f"/dev/{what}")
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "dangling":
        path.symlink_to("no-such-file")
    elif what == "big":
        with path.open("wb") as file:
            file.truncate(BIG_FILE)
    elif what == "self":
        path.symlink_to("/proc/self/mem")
    return f"{what} in place of {path.name}"


def damage_file(path: Path, rng: Random, is_json: bool = True) -> str:
    """Damages a file in place: its kind, its bytes, or the JSON value in it. Returns what."""
    draw = rng.random()
    if draw < 0.08:
        return replaced(path, rng)
    data = path.read_bytes()
    if is_json and draw < 0.6:
        what, value = damaged_value(json.loads(data), rng)
        path.write_bytes(dumped(value, rng))
    else:
        what, data = damaged_bytes(data, rng)
        path.write_bytes(data)
    return f"{path.name}: {what}"
