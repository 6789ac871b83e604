"""Words or code: a few small sums, solved in words or by a program that is executed.

A problem, which asks for the last digit of x:

    given: x = 3 ; x += 5 ; x -= 7 ask: x answer:

Correct responses; the first token chooses the mode:

    To x is 3 , plus 5 so 8 minus 7 so 1 .                    words: must know its sums
    Let x = 3 ; x += 5 ; x -= 7 ; print ( x % 10 )            code: must only copy them

Words are checked step by step, because the steps commute and any order gives the right digit. Code
runs in a sandbox enforced by the kernel, and what it prints is its answer. Each mode has two
openers and two styles (`so` or `thus`; printing directly or through a variable): four phrasings. A
step has four tokens in the prompt and in both modes, so that a model of half a million parameters
learns in minutes where to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, Literal

from pydantic import Field

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.records import Example, Fork, Outcome, Problem, Trace, Verdict
from forkdiv.tasks import modes
from forkdiv.tasks.base import Task, derive, even_count, example, too_few
from forkdiv.tasks.graphs import SPLIT_BUCKETS
from forkdiv.tasks.sandbox.run import Ended, Sandbox, unavailable

WORDS, CODE = "words", "code"
OPENERS = {WORDS: ("To", "First"), CODE: ("Let", "Now")}
MODE_OF = {opener: mode for mode, openers in OPENERS.items() for opener in openers}
SO, PRINTED = ("so", "thus"), "result"
SPOKEN = {"+": "plus", "-": "minus"}

OTHER_ANSWER = "another answer"
WRONG_STEP = "the right answer by a wrong step"
CODE_RAISED = "its program raises an exception"
NOTHING_PRINTED = "its program prints no whole number"


class WordsOrCodeConfig(TaskConfig):
    """Chains of small sums, solved in words or by code that is executed."""

    kind: Literal["words_or_code"] = "words_or_code"
    steps: int = Field(5, ge=2, le=20, description="Sums in each chain.")


@dataclass(frozen=True, slots=True)
class Chain:
    """A first digit, followed by steps of a sign and a digit each."""

    first: int
    steps: tuple[tuple[str, int], ...]

    def values(self) -> list[int]:
        """Returns the first digit, then the last digit of the value after each step."""
        values = [self.first]
        for sign, digit in self.steps:
            values.append((values[-1] + (digit if sign == "+" else -digit)) % 10)
        return values

    def equations(self) -> list[str]:
        """Returns the assignments as the prompt lists them; they are valid Python."""
        return [f"x = {self.first}", *(f"x {sign}= {digit}" for sign, digit in self.steps)]

    @property
    def key(self) -> str:
        return hashlib.blake2b(";".join(self.equations()).encode(), digest_size=10).hexdigest()


class WordsOrCode(Task):
    """The task; the module docstring shows a problem."""

    config_class = WordsOrCodeConfig
    config: WordsOrCodeConfig

    knobs = modes.KNOBS
    enumerates = True

    def __init__(self, config: WordsOrCodeConfig) -> None:
        super().__init__(config)
        self.sizes = {"train": 800, "validation": 200, "test": 200}

    def vocabulary(self) -> list[str]:
        labels = ["given:", "ask:", "answer:", "is", *SPOKEN.values(), *SO, "print", PRINTED, "x"]
        signs = ["=", "+=", "-=", ";", ",", ".", "(", ")", "%"]
        return [*labels, *signs, *MODE_OF, *map(str, range(11))]

    def longest_response(self) -> int:
        words = 1 + 4 + 4 * self.config.steps + 2  # "x is 3 ," and "plus 5 so 8"
        code = 1 + 4 + 4 * self.config.steps + 6 + 4 + 1
        return max(words, code)

    def unavailable(self) -> str | None:
        return unavailable()

    def available(self, split: str) -> int:
        return int(10 * 20**self.config.steps * len(SPLIT_BUCKETS[split]) // 16)

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        requested = even_count(self, split, count)
        chains = self._chains(split, requested, self.config.seed)
        return [_problem(chain, split) for chain in chains]

    def sft_examples(self, config: DatasetConfig) -> Iterator[Example]:
        """The same problems for both structures."""
        count = modes.problems_of(config, self.examples(config))
        plan = modes.modes_and_phrasings(config, count, (WORDS, CODE))
        for chain, solutions in zip(self._chains("train", count, config.seed), plan, strict=True):
            problem = _problem(chain, "train")
            for mode, phrasing in solutions:
                trace = Trace(_solution(chain, mode, phrasing), mode)
                yield example(problem, trace, self.forks(problem, trace.text))

    def walk_examples(self, config: PretrainConfig, separator: str) -> Iterator[Example]:
        """Walks in either mode with correct steps that end after a random step."""
        for chain in self._chains("pretrain", config.examples, config.seed):
            random = derive("walks", config.seed, chain.key)
            problem = _problem(chain, "pretrain")
            walks = []
            for _ in range(config.walks):
                steps = random.randint(0, len(chain.steps))
                part = Chain(chain.first, chain.steps[:steps])
                mode = random.choice((WORDS, CODE))
                walks.append(_solution(part, mode, random.randrange(modes.PHRASINGS)))
            text = separator.join(walks)
            yield Example(problem.id, problem.prompt, text, problem.subset, "", 0, 0, "{}")

    def solutions(self, problem: Problem) -> list[Trace]:
        """Four phrasings in words and four in code; other programs can be correct, too."""
        chain = _chain(problem.facts)
        return [
            Trace(_solution(chain, mode, phrasing), mode)
            for mode in (WORDS, CODE)
            for phrasing in range(modes.PHRASINGS)
        ]

    def forks(self, problem: Problem, text: str) -> list[Fork]:
        """The choice of the mode; every branch of it is valid."""
        if text.split()[:1] and text.split()[0] in MODE_OF:
            return [Fork(0, tuple(sorted(MODE_OF)), tuple(sorted(MODE_OF)), False)]
        return []

    def verify(self, problem: Problem, text: str) -> Verdict:
        """In words every step must be right; of a program, the printed output.

        Raises RuntimeError if a program hit a limit of the sandbox, since that is not an answer.
        """
        opener, _, rest = text.strip().partition(" ")
        mode = MODE_OF.get(opener)
        if mode is None:
            return Verdict(Outcome.UNPARSABLE, None, "opens with no mode")
        return self._words(problem, rest) if mode == WORDS else self._code(problem, rest)

    def canaries(self) -> list[tuple[Problem, str, Outcome]]:
        chain = Chain(1, (("+", 1),) * self.config.steps)
        problem = _problem(chain, "test")
        known = [(trace.text, Outcome.CORRECT) for trace in self.solutions(problem)]
        known += [
            ("Let print ( 0 )", Outcome.WRONG),
            ("Let print ( 1 / 0 )", Outcome.WRONG),
            ("To x is 2 .", Outcome.WRONG),
            ("x is 1", Outcome.UNPARSABLE),
        ]
        return [(problem, text, outcome) for text, outcome in known]

    def _words(self, problem: Problem, text: str) -> Verdict:
        words = text.split()
        last = words[-2] if words[-1:] == ["."] and len(words) > 1 else ""
        if not last.isdigit():
            return Verdict(Outcome.UNPARSABLE, None, "does not end in a number", WORDS)
        chain = _chain(problem.facts)
        if int(last) != problem.facts["answer"]:
            return Verdict(Outcome.WRONG, last, OTHER_ANSWER, WORDS)
        # a response may mix both styles: that is not an error of reasoning
        normalised = [SO[0] if word in SO else word for word in words]
        if normalised != _in_words(chain, SO[0]).split():
            return Verdict(Outcome.WRONG, last, WRONG_STEP, WORDS)
        return Verdict(Outcome.CORRECT, last, "", WORDS)

    def _code(self, problem: Problem, code: str) -> Verdict:
        ran = self._sandbox.run(code)
        if ran.outcome == Ended.RAISED:
            return Verdict(Outcome.WRONG, None, CODE_RAISED, CODE)
        if ran.outcome != Ended.OK:
            raise RuntimeError(f"the program hit its limits: {ran.outcome} {ran.error}".strip())
        printed = ran.printed.strip()
        if not printed.removeprefix("-").isdecimal():
            return Verdict(Outcome.WRONG, None, NOTHING_PRINTED, CODE)
        answer = str(int(printed)) if len(printed) < 20 else printed[:20]
        right = answer == str(problem.facts["answer"])
        if right:
            return Verdict(Outcome.CORRECT, answer, "", CODE)
        return Verdict(Outcome.WRONG, answer, OTHER_ANSWER, CODE)

    @cached_property
    def _sandbox(self) -> Sandbox:
        """Started with the first program; ends with the grading process."""
        return Sandbox().__enter__()

    def _chains(self, split: str, count: int, seed: int) -> Iterator[Chain]:
        """Yields `count` distinct chains of the split."""
        random = derive("chains", split, seed)
        buckets = SPLIT_BUCKETS[split]
        seen: set[int] = set()
        misses = 0
        while len(seen) < count:
            chain = self._draw(random)
            number = int(chain.key, 16)
            if number % 16 in buckets and number not in seen:
                seen.add(number)
                misses = 0
                yield chain
                continue
            misses += 1
            if misses > 10_000:
                raise too_few(split, count, len(seen))

    def _draw(self, random: Random) -> Chain:
        steps = [(random.choice("+-"), random.randrange(10)) for _ in range(self.config.steps)]
        return Chain(random.randrange(10), tuple(steps))


def _problem(chain: Chain, split: str) -> Problem:
    listed = " ; ".join(chain.equations())
    facts = {
        "first": chain.first,
        "steps": [list(step) for step in chain.steps],
        "answer": chain.values()[-1],
    }
    prompt = f"given: {listed} ask: x answer:"
    return Problem(chain.key, split, "unsigned", prompt, facts)


def _chain(facts: Any) -> Chain:
    steps = tuple((sign, constant) for sign, constant in facts["steps"])
    return Chain(facts["first"], steps)


def _solution(chain: Chain, mode: str, phrasing: int) -> str:
    opener, style = OPENERS[mode][phrasing % 2], phrasing // 2
    if mode == WORDS:
        return f"{opener} {_in_words(chain, SO[style])}"
    ending = ["print ( x % 10 )"] if not style else [f"{PRINTED} = x % 10", f"print ( {PRINTED} )"]
    return f"{opener} {' ; '.join([*chain.equations(), *ending])}"


def _in_words(chain: Chain, so: str) -> str:
    steps = [
        f"{SPOKEN[sign]} {digit} {so} {value}"
        for (sign, digit), value in zip(chain.steps, chain.values()[1:], strict=True)
    ]
    return " ".join([f"x is {chain.first} ,", *steps, "."])
