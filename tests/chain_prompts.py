"""Arithmetic chains for tests. What a shortcut could read (positions, names, numbers, the order of
the listing) is read here from the prompt alone, as a model reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.records import Example
from forkdiv.tasks.arithmetic_chain import ArithmeticChain, ArithmeticChainConfig

TASK = ArithmeticChain(ArithmeticChainConfig())
SHORT = ArithmeticChain(ArithmeticChainConfig(length=3))
SHAPES = [(2, 10, 26), (3, 4, 26), (4, 3, 13), (8, 12, 260)]


def shaped(chains: int, length: int, names: int, **more: int) -> ArithmeticChain:
    config = {"chains": chains, "length": length, "names": names, **more}
    return ArithmeticChain(ArithmeticChainConfig.model_validate(config))


def data(task: ArithmeticChain, **config: float) -> list[Example]:
    return list(task.sft_examples(DatasetConfig.model_validate(config)))


@dataclass(frozen=True)
class Seen:
    """A prompt taken apart, knowing only how prompts are written."""

    lines: tuple[tuple[str, str, int], ...]  # variable, parent, change, in the order listed
    marked: tuple[int, ...]
    root: str
    value: int
    goal: str

    @cached_property
    def at(self) -> dict[str, int]:
        """Where each variable's equation is listed."""
        return {variable: i for i, (variable, _, _) in enumerate(self.lines)}

    @cached_property
    def following(self) -> dict[str, str]:
        return {parent: variable for variable, parent, _ in self.lines if parent != self.root}

    @cached_property
    def firsts(self) -> list[str]:
        """The variables to choose from, in the order their equations are listed."""
        return [variable for variable, parent, _ in self.lines if parent == self.root]

    @cached_property
    def values(self) -> dict[str, int]:
        """What every variable is worth."""
        values = {self.root: self.value}
        while len(values) <= len(self.lines):
            known = [one for one in self.lines if one[1] in values]
            values |= {variable: values[parent] + change for variable, parent, change in known}
        return values

    @cached_property
    def right(self) -> str:
        """The first step to the goal, by walking back from it."""
        name = self.goal
        while name not in self.firsts:
            name = self.lines[self.at[name]][1]
        return name

    def end(self, first: str) -> str:
        while first in self.following:
            first = self.following[first]
        return first

    def change(self, name: str) -> int:
        return self.lines[self.at[name]][2]

    @property
    def links(self) -> frozenset[tuple[str, str]]:
        return frozenset((parent, variable) for variable, parent, _ in self.lines)


def seen(prompt: str) -> Seen:
    _, listing, question = prompt.split("\n\n")
    lines, marked = [], []
    for i, line in enumerate(listing.split("\n")):
        match = re.fullmatch(r"(\w+) = (\w+) ([+-]) (\d+)( \(\*\))?", line)
        assert match
        change = int(match[3] + match[4])
        lines.append((match[1], match[2], change))
        marked += [i] if match[5] else []
    asked = re.match(r"The value of (\w+) is (-?\d+)\. What is the value of (\w+)\?\n", question)
    assert asked and r"\boxed{}" in question
    return Seen(tuple(lines), tuple(marked), asked[1], int(asked[2]), asked[3])
