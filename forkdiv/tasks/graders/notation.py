r"""One spelling for every notation: what references and responses are written in, as plain LaTeX.

`unify` replaces characters (`８`, `−`, `²`, `½`, `π`), `latex` also replaces LaTeX commands that
change only the look (`\dfrac`, `\left`, `\,`). All graders read what these two return, for the
reference and for the response, so that both sides have the same notations.
"""

from __future__ import annotations

import re
import unicodedata

_MINUS = "\u2010\u2011\u2012\u2013\u2212\u02d7\u2796\ufe63\uff0d"
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_SPACES += "\u202f\u205f\u3000"
_COMMANDS = {
    "π": "pi", "∞": "infty", "×": "times", "÷": "div", "·": "cdot", "⋅": "cdot", "±": "pm",
    "∪": "cup", "∩": "cap", "∈": "in", "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx",
    "∅": "emptyset", "θ": "theta", "α": "alpha", "β": "beta", "λ": "lambda", "φ": "phi",
    "°": "degree", "º": "degree", "→": "to", "⇒": "Rightarrow",
    "√": "sqrt", "∛": "sqrt[3]",
}  # fmt: skip
_CHARACTERS = (
    dict.fromkeys(_MINUS, "-")
    | dict.fromkeys(_INVISIBLE, "")
    | dict.fromkeys(_SPACES, " ")
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if code != 0xFF0D}
    | {character: f"\\{command} " for character, command in _COMMANDS.items()}
    | {
        "\u2044": "/",
        "\u2215": "/",
        "\u066a": "%",
        "\u066b": ".",
        "\u066c": ",",
        "\u2236": ":",
        "…": "...",
    }
    | {"\u2019": "'", "\u02bc": "'", "\u3002": ". ", "\uff61": ". ", "\u3001": ", ", "\uff0c": ","}
    | {"\uffe5": "¥", "\uffe1": "£", "℃": "\\degree C", "℉": "\\degree F"}
)
_TABLE = str.maketrans(_CHARACTERS)
_RAISED = {"⁻": "-", "⁺": "+", "⁽": "(", "⁾": ")", "ⁿ": "n", "ⁱ": "i"}
_LOWERED = {"₋": "-", "₊": "+"}
_SCRIPTS = re.compile(r"[⁰¹²³⁴-⁹⁻⁺⁽⁾ⁿⁱ]+|[₀-₉₋₊]+")
_FRACTION = re.compile("[¼½¾⅐-⅞↉]")
# an em dash is a minus sign only where a word or number begins; elsewhere it is punctuation
_EM_DASH = re.compile(r"(?<!\S)[\u2014\u2015](?=[$£€¥.\d\\])")

_TEXT = r"text(?:bf|it|rm|sf|tt|normal)?|math(?:bf|it|rm|sf|tt|normal)|mbox|textup|operatorname\*?"
_FONT = re.compile(rf"\\(?:{_TEXT})\s*\{{([^{{}}]*)\}}|\{{\\(?:bf|it|rm|sf|em)\s+([^{{}}]*)\}}")
_GROUPS = r"(?<=[0-9])(?:\{,\}|,?\\[,;:! ]|,?\{\\,\})(?=[0-9]{3}(?![0-9]))"
_LOOK = (
    (re.compile(_GROUPS), ","),  # 10,\!000 and 10\,000
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?|(?:display|text|script)style)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:q?quad|enspace|thinspace|hfill)(?![A-Za-z])|\\hspace\*?\{[^{}]*\}"), " "),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]|~"), " "),
    (re.compile(r"(?<!\\)\\([$%#&])"), r"\1"),
    (re.compile(r"\\(?:ge|geqslant)(?![A-Za-z])"), r"\\geq"),
    (re.compile(r"\\(?:le|leqslant)(?![A-Za-z])"), r"\\leq"),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degrees?(?![A-Za-z])"), "°"),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\langle(?![A-Za-z])"), "⟨"),
    (re.compile(r"\\rangle(?![A-Za-z])"), "⟩"),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\mathbb\s*(?:\{R\}|R)|\\R(?![A-Za-z])"), "ℝ"),
)


def unify(text: str) -> str:
    r"""Returns the text with one character for each meaning: ASCII digits, `-` for every minus
    sign, `^{2}` for `²`, `\frac{1}{2}` for `½`, `\pi` for `π`."""
    if text.isascii():
        return text
    text = _FRACTION.sub(_fraction, _SCRIPTS.sub(_script, _EM_DASH.sub("-", text)))
    return "".join(_ascii(character) for character in text.translate(_TABLE))


def latex(text: str) -> str:
    """Returns the text, unified, without the LaTeX commands that change only its look. `°` stands
    for degrees; `$` is kept."""
    text = unify(text)
    if re.search(r"[\\~{]", text):
        for look, plain in _LOOK:
            text = look.sub(plain, text)
    return re.sub(r"°\s*(?=\S)", "° ", text)


def without_fonts(text: str) -> str:
    r"""Replaces `\text{B}` and similar commands by their content, innermost first."""
    for _ in range(4):
        replaced = _FONT.sub(lambda match: match[1] or match[2] or "", text)
        if replaced == text:
            break
        text = replaced
    return text


def _script(match: re.Match[str]) -> str:
    signs = _RAISED | _LOWERED
    if match[0] in "⁻⁺₋₊":
        return signs[match[0]]
    content = "".join(signs.get(one) or str(unicodedata.digit(one)) for one in match[0])
    return f"{'_' if match[0][0] in '₀₁₂₃₄₅₆₇₈₉₋₊' else '^'}{{{content}}}"


def _fraction(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("\u2044")
    return f"\\frac{{{top}}}{{{bottom}}}"


def _ascii(character: str) -> str:
    """Returns digits of every script as ASCII digits, and 𝑥 as x."""
    if character < "\u0080":
        return character
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if "\U0001d400" <= character <= "\U0001d7ff":
        return unicodedata.normalize("NFKC", character)
    return character
