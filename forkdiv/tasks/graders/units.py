r"""What may stand behind a number: units (`12 cm`, `90°`, `12\text{ dollars}`) are not part of an
answer, factors (`8x`, `8k`) are."""

from __future__ import annotations

import re

from forkdiv.tasks.graders.notation import without_fonts


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FONT = re.compile(r"\s*\\(?:text|math|mbox|operatorname)[a-z]*\s*\{")
_EXPONENT = re.compile(r"\s*\^\s*(?:\{\s*-?[0-9]\s*\}|-?[0-9])")
_NAME = re.compile(r"[^\W\d_]+")
_MARKS = re.compile(r"[^\W\d_]|[ .,/()'°%·µ$£€¥₹₩₽₪₺฿-]")
# short names of units; longer words count as units unless they are listed below
_UNITS = words(
    "cm mm km nm ft in yd mi kg mg lb lbs oz ml mL cl dl kL gal hr hrs min mins sec secs ms "
    "mph kph sq cu deg rad Hz kHz MHz kW kWh Pa kPa eV mol USD EUR GBP INR pt pts qt st nd rd "
    "th yr yrs wk wks mo mos kB MB GB"
)
_ONE_LETTER = frozenset("mgshlLWVNJCF")
_VARIABLES = frozenset("abcdefijknpqrtuvwxyz")
_ORDINALS = {"st", "nd", "rd", "th"}
_EASTERN_SCALES = frozenset("百千万萬亿億兆")
# words that change what the number before them means
_NO_UNITS = words(
    "or and to base mod modulo plus minus times over if when where for than am pm noon "
    "midnight from through between dozen half halves thirds fourths fifths sixths eighths "
    "tenths hundredths thousandths remainder bn mn hundred thousand million billion trillion "
    "is are not"
)
_FUNCTIONS = words(
    "sin cos tan cot sec csc log exp lim max gcd lcm det dim ker arg arcsin arccos arctan "
    "sinh cosh tanh sqrt abc xyz abcd infinity"
)


def is_unit(text: str) -> bool:
    r"""Returns whether the text behind a number is a unit or another description of what is
    counted: `%`, `°`, ` cm^2`, `\text{ dollars}`, ` apples`."""
    glued = bool(_NAME.match(text))
    in_font = bool(_FONT.match(text))
    words = _EXPONENT.sub("", without_fonts(text)).strip()
    words = re.sub(r"[$\\]+$", "", words)
    if not _MARKS.match(words) or _MARKS.sub("", words):
        return False
    names = _NAME.findall(words)
    if any(name.lower() in _NO_UNITS for name in names) or re.search(r"\b[ap]\.\s?m\b", words):
        return False
    if in_font or not names or words[0] == "°":
        return True
    if glued and names[0] not in _UNITS - _ORDINALS:
        return False
    return all(_names_a_unit(name) for name in names)


def _names_a_unit(name: str) -> bool:
    return name in _UNITS - _ORDINALS or (len(name) > 2 and name.lower() not in _FUNCTIONS)


def is_factor(letters: str) -> bool:
    """Returns whether letters directly behind a number make it another number, as in 8x and 8k;
    8cm, 8th and 8m are 8."""
    if letters[0] in _EASTERN_SCALES:
        return True
    if letters in _UNITS or not ("A" <= letters[0] <= "z" or "α" <= letters[0] <= "ω"):
        return False
    if len(letters) == 1:
        return letters not in _ONE_LETTER
    return letters.lower() in _NO_UNITS or (len(letters) < 4 and set(letters) <= _VARIABLES)
