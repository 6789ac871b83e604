"""Planted coin flips and planted rules: copies of the user's own rows with one more choice, whose
nature is known. They calibrate the criterion and show its power on this data.

A planted row's prompt begins with three words of the data's responses, and its response with one
of them. In a coin flip it is drawn at random; in a rule the prompt repeats the right word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from forkdiv.core.chat import USER, pack, split_shots, unpack, with_shots
from forkdiv.core.records import Example

OPTIONS = 3
FREQUENT_WORDS = 200


@dataclass(frozen=True)
class PlantedRow:
    """A planted example: the row that it copies, whether its choice follows a rule, and its
    options, of which `options[chosen]` begins the response."""

    example: Example
    copied: int
    is_rule: bool
    options: tuple[str, ...]
    chosen: int

    @property
    def offset(self) -> int:
        """The number of characters of the response that were added."""
        return len(self.options[self.chosen]) + 1


def plant(examples: Sequence[Example], share: float, seed: int) -> list[PlantedRow]:
    """Returns planted copies: as many coin flips and as many rules as `share` of the rows, at
    least one of each; none if `share` is 0, or if the responses have fewer than three words."""
    words = _frequent_words(examples)
    if not share or len(words) < OPTIONS:
        return []
    random = Random(f"learnability/planted/{seed}")
    count = max(round(share * len(examples)), 1)
    chosen = random.sample(range(len(examples)), min(2 * count, len(examples)))
    return [
        _planted(examples[row], row, number % 2 == 1, words, random)
        for number, row in enumerate(chosen)
    ]


def _planted(
    example: Example, row: int, is_rule: bool, words: Sequence[str], random: Random
) -> PlantedRow:
    options = tuple(random.sample(list(words), OPTIONS))
    chosen = random.randrange(OPTIONS)
    listed = [*options, options[chosen]] if is_rule else options
    planted = replace(
        example,
        prompt=_with_beginning(example.prompt, " ".join(listed)),
        response=f"{options[chosen]} {example.response}",
        facts="{}",
    )
    return PlantedRow(planted, row, is_rule, options, chosen)


def _with_beginning(prompt: str, text: str) -> str:
    """Returns the prompt whose last message of the user begins with `text`."""
    shots, own = split_shots(prompt)
    turns = unpack(own)
    last = max(at for at, turn in enumerate(turns) if turn["role"] == USER)
    turns[last] = turns[last] | {"content": f"{text} {turns[last]['content']}"}
    return with_shots(pack(turns), shots)


def _frequent_words(examples: Sequence[Example]) -> list[str]:
    counts = Counter(
        word for example in examples for word in example.response.split() if word.isalnum()
    )
    return [word for word, _ in counts.most_common(FREQUENT_WORDS)]
