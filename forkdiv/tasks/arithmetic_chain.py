r"""Arithmetic chains: the published graph task (arXiv 2605.17026) written as equations in text.

A problem with 2 chains of 3 equations, its fork signed (`(*)` marks the right first equation):

    Each variable but one is defined by an equation. In no particular order:

    e = k - 17
    k = u - 7
    j = v - 2
    x = e + 16
    s = u - 19 (*)
    v = s - 14

    The value of u is 14. What is the value of j?
    Work it out step by step and give the final answer, an integer, in \boxed{}.

Its forward trace, which chooses between k and s, and its reverse trace:

    1. s = u - 19 = -5.                    1. j = v - 2.
    2. v = s - 14 = -19.                   2. v = s - 14, so j = s - 14 - 2 = s - 16.
    3. j = v - 2 = -21.                    3. s = u - 19, so j = u - 19 - 16 = u - 35.
    The answer is \boxed{-21}.             4. u = 14, so j = 14 - 35 = -21.
                                           The answer is \boxed{-21}.

In an unsigned problem no equation has a mark, and only following the chains to their ends shows
which first step leads to the target. Reverse traces have no choice to make.

A response is right if its answer is. With `strict`, each of its lines must also be one of these two
traces': then every correct response is listed, and pass@k is known exactly.

Equations are listed in random order. The published generator lists the target chain's first
equation first; `position_leak` does the same, to show that this gives the right branch away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.core.config.base import without_defaults
from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.records import Example, Fork, Outcome, Problem, Trace, Verdict
from forkdiv.core.shuffle import chosen, spread
from forkdiv.tasks.base import Task, derive, even_count, example
from forkdiv.tasks.equations import Equation, System
from forkdiv.tasks.graders.latex import last_box_or_none
from forkdiv.tasks.graphs import Graph, GraphSpace

SIGNED, UNSIGNED = "signed", "unsigned"
FORWARD, REVERSE = "forward", "reverse"
MARK = " (*)"

# Reasons why an answer is wrong (at the fork or elsewhere) or cannot be parsed.
OTHER_END = "the value of another chain's end"
OTHER_VALUE = "another value"
NO_BOX = "no boxed answer"
NO_INTEGER = "the boxed answer is no integer"
WRONG_STEP = "the right answer by other or wrong steps"

LEAK_NOTE = (
    "position_leak: the target chain's first equation is always listed first, "
    "so that its place gives every fork away"
)
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)")


class ArithmeticChainConfig(TaskConfig):
    """The published arithmetic-chain task (arXiv 2605.17026) in its text form."""

    kind: Literal["arithmetic_chain"] = "arithmetic_chain"
    chains: int = Field(
        2, ge=2, le=8, description="Chains of equations that start at the same root variable."
    )
    length: int = Field(10, ge=3, le=12, description="Equations of each chain.")
    low: int = Field(1, ge=1, description="Lower end of the range of constants.")
    high: int = Field(20, ge=2, le=1000, description="Upper end of the range of constants.")
    names: int = Field(26, ge=7, le=260, description="Number of variable names to choose from.")
    position_leak: bool = Field(
        False,
        description="List the first equation of the target chain first, as the published generator "
        "does. This shows a model the right chain: set it only to demonstrate that leak.",
    )

    strict: bool = Field(
        False,
        description="Count a response as right only if each line is written and calculated as in "
        "one of the task's two traces. Then pass@k is also computed exactly, from probabilities.",
    )

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, plain(self), ("strict",))

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        needed = self.chains * self.length + 1
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for chains={self.chains} and "
                f"length={self.length}; allowed: at least {needed}; raise task.names"
            )
        return self

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.high <= self.low:
            raise ValueError(
                f"high={self.high} must exceed low={self.low}; allowed: low < high; raise task.high"
            )
        return self


class ArithmeticChain(Task):
    """The task; the module docstring shows a problem."""

    config_class = ArithmeticChainConfig
    config: ArithmeticChainConfig

    knobs = frozenset({"fork_density", "direction", "synthesis"})
    one_right_branch = True
    subsets = (SIGNED, UNSIGNED)
    sizes: Mapping[str, int] = {"train": 6400, "validation": 1600, "test": 1000}

    def __init__(self, config: ArithmeticChainConfig) -> None:
        super().__init__(config)
        self.notes = (LEAK_NOTE,) if config.position_leak else ()
        self.exhaustive = config.strict
        self._space = GraphSpace(config.chains, config.length, 1, 1, config.names)
        # all names have the same length: `b` would be a prefix of `b1`
        self._suffix = "0" if config.names > 26 else ""

    def available(self, split: str) -> int:
        """Returns the number of chain structures with a target, times the split's share; problems
        that differ only in constants or the root's value count once."""
        return self._space.available(split)

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        """Half signed, half unsigned."""
        requested = even_count(self, split, count)
        graphs = enumerate(self._space.draw(split, requested, self.config.seed))
        return [
            self._problem(graph, split, self.subsets[i % 2], derive("numbers", split, graph.key))
            for i, graph in graphs
        ]

    def content_of(self, problem_id: str) -> str:
        """The graph and its target, without the signs."""
        return problem_id.rpartition("-")[0]

    def sft_examples(self, config: DatasetConfig) -> Iterator[Example]:
        """One example per problem. Directions do not depend on the fork density, nor marks on the
        direction. Both shares are exact over all problems; with mixed directions, the density
        among forward traces deviates by a few problems at most.
        """
        count, seed = self.examples(config), config.seed
        unsigned = chosen(count, config.fork_density, f"density/{seed}")
        forward = round(count * config.direction)
        for i, graph in enumerate(self._space.draw("train", count, seed)):
            mode = FORWARD if spread(unsigned.rank(i), count) < forward else REVERSE
            subset = UNSIGNED if i in unsigned else SIGNED
            problem = self._problem(graph, "train", subset, derive("numbers", seed, graph.key))
            trace = _trace(System(problem.facts), mode)
            yield example(problem, trace, self.forks(problem, trace.text) or ())

    def solutions(self, problem: Problem) -> list[Trace]:
        """The forward and the reverse trace; unless `strict`, others can be correct, too."""
        system = System(problem.facts)
        return [_trace(system, mode) for mode in (FORWARD, REVERSE)]

    def forks(self, problem: Problem, text: str) -> list[Fork] | None:
        """The first step of a forward response; a reverse response has no fork. None if the first
        step is neither."""
        system = System(problem.facts)
        step = system.first_step(text)
        mode = _mode(system, step)
        if step is None or mode != FORWARD:
            return [] if mode == REVERSE else None
        right = system.chain(system.target)[0].variable
        branches = tuple(system.first_steps)
        return [Fork(step.start(1), branches, (right,), problem.subset == SIGNED)]

    def references(self, problem: Problem) -> Sequence[str]:
        return (str(problem.facts["answer"]),)

    def verify(self, problem: Problem, text: str) -> Verdict:
        r"""Reads the last `\boxed{}`: an integer, optionally with spaces, dollar signs or leading
        zeros. The steps are checked only with `strict`; `check_trace` checks them always."""
        system = System(problem.facts)
        mode = _mode(system, system.first_step(text))
        box = last_box_or_none(text)
        if box is None:
            return Verdict(Outcome.UNPARSABLE, None, NO_BOX, mode)
        integer = _INTEGER.fullmatch(box.replace("\u2212", "-").strip("$ \n\t"))
        if integer is None:
            return Verdict(Outcome.UNPARSABLE, None, NO_INTEGER, mode)
        # as text: int() refuses numbers of thousands of digits
        sign = "-" if integer[1] == "-" and integer[2] != "0" else ""
        answer = sign + integer[2]
        if answer == str(problem.facts["answer"]):
            if self.config.strict and system.check(text) is not None:
                return Verdict(Outcome.WRONG, answer, WRONG_STEP, mode)
            return Verdict(Outcome.CORRECT, answer, "", mode)
        ends = map(str, system.ends().values())
        return Verdict(Outcome.WRONG, answer, OTHER_END if answer in ends else OTHER_VALUE, mode)

    def check_trace(self, problem: Problem, text: str) -> str | None:
        """Returns the first error in a trace written in this task's form, or None."""
        return System(problem.facts).check(text)

    def canaries(self) -> list[tuple[Problem, str, Outcome]]:
        canaries = []
        for problem in self.heldout("validation", 2):
            answer = problem.facts["answer"]
            canaries += [
                (problem, trace.text, Outcome.CORRECT) for trace in self.solutions(problem)
            ]
            canaries += [
                (
                    problem,
                    rf"First \boxed{{{answer + 1}}}, or \boxed{{ {answer} }}",
                    Outcome.WRONG if self.config.strict else Outcome.CORRECT,
                ),
                (problem, rf"\boxed{{{answer}}}, no: \boxed{{{answer + 1}}}", Outcome.WRONG),
                (problem, f"The answer is {answer}.", Outcome.UNPARSABLE),
                (problem, rf"The answer is \boxed{{{answer}", Outcome.UNPARSABLE),
                (problem, r"The answer is \boxed{unknown}.", Outcome.UNPARSABLE),
            ]
        return canaries

    def _problem(self, graph: Graph, split: str, subset: str, random: Random) -> Problem:
        """Returns the graph's edges as equations. The graph alone decides which chain is right;
        numbers and order are drawn independently of it."""
        paths = [[self._name(node) for node in path] for path in graph.stages[0].paths()]
        root, target = paths[0][0], paths[0][-1]
        value = random.randint(self.config.low, self.config.high)
        chains = [
            [
                Equation(variable, parent, *step)
                for parent, variable, step in zip(path, path[1:], steps, strict=False)
            ]
            for path, steps in zip(paths, self._steps(random), strict=True)
        ]
        right = chains[0][0]
        listed = [equation for chain in chains for equation in chain]
        random.shuffle(listed)
        if self.config.position_leak:
            listed.remove(right)
            listed.insert(0, right)
        marked = right if subset == SIGNED else None
        facts = {
            "root": root,
            "value": value,
            "target": target,
            "equations": [list(equation) for equation in listed],
            "answer": value + sum(equation.change for equation in chains[0]),
        }
        prompt = _prompt(listed, marked, root, value, target)
        return Problem(f"{graph.key}-{target}-{subset}", split, subset, prompt, facts)

    def _steps(self, random: Random) -> list[list[tuple[str, int]]]:
        """Returns operations and constants of every chain. No two chains change the root's value by
        the same amount, so the answer identifies the chain.

        Shuffled at the end: a chain drawn later tends to have a larger change.
        """
        low, high = self.config.low, self.config.high
        chains: dict[int, list[tuple[str, int]]] = {}
        while len(chains) < self.config.chains:
            steps = [
                (random.choice("+-"), random.randint(low, high)) for _ in range(self.config.length)
            ]
            change = sum(number if sign == "+" else -number for sign, number in steps)
            chains.setdefault(change, steps)
        drawn = list(chains.values())
        random.shuffle(drawn)
        return drawn

    def _name(self, node: str) -> str:
        return node if len(node) > 1 else node + self._suffix


def _prompt(
    listed: list[Equation], marked: Equation | None, root: str, value: int, target: str
) -> str:
    lines = [f"{equation}{MARK if equation == marked else ''}" for equation in listed]
    return "\n".join(
        [
            "Each variable but one is defined by an equation. In no particular order:",
            "",
            *lines,
            "",
            f"The value of {root} is {value}. What is the value of {target}?",
            r"Work it out step by step and give the final answer, an integer, in \boxed{}.",
        ]
    )


def _mode(system: System, step: re.Match[str] | None) -> str:
    """Returns the mode of a response, judged by its first step."""
    if step is None:
        return ""
    if step[1] == system.target:
        return REVERSE
    return FORWARD if step[1] in system.first_steps else ""


def _trace(system: System, mode: str) -> Trace:
    return Trace(system.forward() if mode == FORWARD else system.reverse(), mode)
