r"""Whether a number in a text stands alone, or is part of something else: the 8 of `8^2`, `2 + 8`,
`\sqrt{8}`, `8\pi`, `3:08` and `(3, 8)` is not the answer 8."""

from __future__ import annotations

import re

from forkdiv.tasks.graders.units import is_factor, words

PART = "a number that is part of a formula"
RAISED = "a number with a power or a subscript"
COMMA = "a comma that may be a decimal point"
FARTHEST = 4000  # characters before a number in which its braces are looked for

_OPERATOR = re.compile(r"(?:[-+*/×^]|\\(?:times|cdot|div|pm|mp))[\s*]*$")
_OPERAND = re.compile(r"(?:[0-9)\]}!%°]|(?<![A-Za-z])[A-Za-z]|\\(?P<command>[A-Za-z]+))\s*$")
_COMMAND = re.compile(r"\\(?P<command>[A-Za-z]+)\s*$")
# commands before a number that do not make it part of a formula
_RELATIONS = words(
    "approx simeq sim equiv cong geq leq gt lt neq to colon rightarrow Rightarrow "
    "longrightarrow Longrightarrow implies iff mapsto therefore because item ldots dots cdots "
    "text in boxed n pounds euro mathrm cup"
)
_CONTAINERS = words("boxed fbox framebox underline text mbox textup operatorname")
# 3,14 and 1,234,56, but not the list 1,2,3
_COMMA = re.compile(r"(?:^|[^0-9.,])(?:[0-9.]+|[0-9]{1,3}(?:,[0-9]{3})+),$")
_SCRIPT = re.compile(r"[_^]\s*\{\s*$")
_OWNER = re.compile(r"\\(?P<command>[A-Za-z]+)\*?\s*(?:\[[^\]{}]*\])?\s*(?:\{[^{}]*\}\s*)*$")
_AFTER = re.compile(
    r"""(?P<raised> \s*[_^] | ! )
      | (?P<part> \s?[‰‱]
          | \s*\\(?:pi|sqrt|theta|infty|frac|times|cdot|div|pm|mp|log|ln|sin|cos|tan)(?![a-z])
          | [/:][0-9.({\\] | /[abcknpqrxyz](?![A-Za-z]) | [.,'][0-9]
          | \s?[-+*/][ ]?(?:[0-9({\\] | [b-zB-HJ-Z](?![A-Za-z]))
          | \((?=[0-9-] | [a-z][^a-z]) | \s*\\[lc]?dots )
      | (?P<letters>[^\W\d_]+)""",
    re.VERBOSE,
)


def in_script(match: re.Match[str]) -> bool:
    """Returns whether a number is a power or a subscript, as in `m^{2}` and `x_{12}`."""
    before = match.string[max(0, match.start() - 20) : match.start()]
    return _SCRIPT.search(before) is not None or "script" in _owners(match)


def part_of(match: re.Match[str]) -> str:
    """Returns why a number is not a value of its own; empty if it is."""
    text, start, end = match.string, match.start(), match.end()
    line = text[max(text.rfind("\n", 0, start) + 1, start - FARTHEST) : start]
    after = _AFTER.match(text, end)
    if after and after["raised"]:
        return RAISED
    if after and (after["part"] or is_factor(after["letters"])):
        return PART
    if "." in match[0] and text.startswith("...", end):
        return PART
    if "\u0300" <= text[end : end + 1] <= "\u036f":  # an overline, a stroke
        return PART
    if "part" in _owners(match) or _follows_operand(line, match):
        return PART
    if re.search(r"[0-9][:']$|[(\[]\s*[-+0-9./\s]+,\s*$", line):
        return PART
    if text[start - 1 : start] == "|" == text[end : end + 1] and match[0].startswith("-"):
        return PART
    return COMMA if _COMMA.search(line) else ""


def _follows_operand(line: str, match: re.Match[str]) -> bool:
    """Returns whether the text before a number makes it an operand: `2 +`, `x /`, `5` before a
    sign, a function."""
    operator = _OPERATOR.search(line)
    signed = match["sign"] or match["minus"]
    if not operator and not signed:
        command = _COMMAND.search(line)
        return command is not None and command["command"] not in _RELATIONS
    operand = _OPERAND.search(line[: operator.start()] if operator else line)
    return operand is not None and operand["command"] not in _RELATIONS


def _owners(match: re.Match[str]) -> set[str]:
    r"""Returns what the braces around a number belong to: `script` for `^{`, `part` for a command
    such as `\sqrt{`."""
    text, start = match.string, match.start()
    begin, depth, owners = max(0, start - FARTHEST), 0, set()
    for at in range(start - 1, begin - 1, -1):
        if text[at] == "}" and text[at - 1 : at] != "\\":
            depth += 1
        elif text[at] == "{" and text[at - 1 : at] != "\\":
            if depth:
                depth -= 1
            else:
                owners.add(_owner(text[begin:at].rstrip()))
        elif text[at] == "\n" == text[at - 1 : at]:
            break
    return owners


def _owner(before: str) -> str:
    if before.endswith(("^", "_")):
        return "script"
    command = _OWNER.search(before[-200:])
    if command is None or command["command"] in _CONTAINERS:
        return "none"
    name = command["command"]
    return "none" if name.startswith(("text", "math")) else "part"
