r"""Short facts: questions with one short, undisputed answer, for evaluation only.

    What is the capital of Zambia?
    Put the answer, and nothing else, in \boxed{}.

The answer is Lusaka. Forty questions each on elements, capitals, numbers and words.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.records import Outcome, Problem, Trace, Verdict
from forkdiv.core.shuffle import Shuffled
from forkdiv.tasks.base import Task, even_count
from forkdiv.tasks.graders.latex import every_box

WORDS = "words"

# Reasons why an answer is wrong or cannot be parsed.
OTHER_ANSWER = "another answer"
SEVERAL = "several answers"
NO_ANSWER = "no answer"

# subject:answer, with alternative spellings of the answer after a slash
ELEMENTS = """
hydrogen:H helium:He lithium:Li beryllium:Be boron:B carbon:C nitrogen:N oxygen:O fluorine:F
neon:Ne sodium:Na magnesium:Mg aluminium:Al silicon:Si phosphorus:P sulfur:S chlorine:Cl argon:Ar
potassium:K calcium:Ca titanium:Ti chromium:Cr manganese:Mn iron:Fe cobalt:Co nickel:Ni copper:Cu
zinc:Zn arsenic:As bromine:Br krypton:Kr silver:Ag tin:Sn iodine:I tungsten:W platinum:Pt gold:Au
mercury:Hg lead:Pb uranium:U
"""
CAPITALS = """
Iceland:Reykjavik Sweden:Stockholm Denmark:Copenhagen/København Finland:Helsinki Estonia:Tallinn
Latvia:Riga Lithuania:Vilnius Czechia:Prague/Praha Slovakia:Bratislava Hungary:Budapest
Slovenia:Ljubljana Croatia:Zagreb Serbia:Belgrade/Beograd Romania:Bucharest/București
Bulgaria:Sofia Albania:Tirana/Tiranë Ukraine:Kyiv/Kiev Russia:Moscow/Moskva Turkey:Ankara
Armenia:Yerevan Azerbaijan:Baku Iran:Tehran/Teheran Iraq:Baghdad Jordan:Amman Lebanon:Beirut
Qatar:Doha Oman:Muscat Nepal:Kathmandu/Katmandu Mongolia:Ulaanbaatar/Ulan_Bator Cambodia:Phnom_Penh
Ghana:Accra Senegal:Dakar Tunisia:Tunis Zambia:Lusaka Namibia:Windhoek Rwanda:Kigali
Colombia:Bogotá Ecuador:Quito Uruguay:Montevideo Cuba:Havana/La_Habana
"""
PASTS = """
go:went bring:brought buy:bought catch:caught teach:taught think:thought fight:fought see:saw
take:took give:gave write:wrote speak:spoke break:broke choose:chose drive:drove eat:ate fall:fell
know:knew grow:grew throw:threw begin:began swim:swam freeze:froze steal:stole keep:kept come:came
hear:heard
"""
PLURALS = """
child:children mouse:mice tooth:teeth foot:feet goose:geese man:men woman:women ox:oxen
wolf:wolves knife:knives wife:wives loaf:loaves crisis:crises
"""
# the unit with its alternative spellings, the number, and the rest of the question
NUMBERS = """
sides 5 does a pentagon have
sides 6 does a hexagon have
sides 7 does a heptagon have
sides 8 does an octagon have
sides 10 does a decagon have
sides 12 does a dodecagon have
faces 6 does a cube have
edges 12 does a cube have
corners 8 does a cube have
degrees 90 are there in a right angle
degrees 360 are there in a full turn
seconds 60 are there in a minute
seconds 3600 are there in an hour
minutes 15 are there in a quarter of an hour
hours 24 are there in a day
hours 168 are there in a week
days 7 are there in a week
days 366 are there in a leap year
days 30 are there in the month of April
days 31 are there in the month of March
months 12 are there in a year
years 10 are there in a decade
years 100 are there in a century
years 1000 are there in a millennium
millimetres/millimeters 10 are there in a centimetre
centimetres/centimeters 100 are there in a metre
metres/meters 1000 are there in a kilometre
grams 1000 are there in a kilogram
inches 12 are there in a foot
feet 3 are there in a yard
bits 8 are there in a byte
legs 8 does a spider have
legs 6 does an adult insect have
strings 4 does a standard violin have
keys 88 does a standard modern piano have
cards 52 are there in a standard deck without jokers
pieces 16 does each player have at the start of a game of chess
letters 26 does the modern English alphabet have
planets 8 does the Solar System have, by the definition of 2006
rings 5 are there in the Olympic symbol
"""
# number words up to twelve; larger numbers are accepted in digits only
SMALL = ["", "", "", "three", "four", "five", "six", "seven", "eight"]
SMALL += ["nine", "ten", "eleven", "twelve"]
VALIDATION_PER_TOPIC = 10
WRAPPING = " \t\n\"'‘’“”*_`$"

Fact = tuple[str, tuple[str, ...]]  # a question and the accepted answers, the usual one first


def _pairs(table: str, question: str) -> list[Fact]:
    facts = []
    for entry in table.split():
        subject, answers = entry.split(":")
        facts.append((question.format(subject), tuple(answers.replace("_", " ").split("/"))))
    return facts


def _counts(table: str) -> list[Fact]:
    facts = []
    for line in table.strip().splitlines():
        units, number, what = line.split(" ", 2)
        unit_names = units.split("/")
        numbers = [number, *SMALL[int(number) : int(number) + 1]]
        answers = [*numbers, *(f"{count} {unit}" for count in numbers for unit in unit_names)]
        facts.append((f"How many {unit_names[0]} {what}?", tuple(answers)))
    return facts


FACTS: dict[str, list[Fact]] = {
    "elements": _pairs(ELEMENTS, "What is the chemical symbol of the element {}?"),
    "capitals": _pairs(CAPITALS, "What is the capital of {}?"),
    "numbers": _counts(NUMBERS),
    "words": [
        *_pairs(PASTS, 'What is the simple past tense of the English verb "{}"?'),
        *_pairs(PLURALS, 'What is the plural of the English noun "{}"?'),
    ],
}


class FactsConfig(TaskConfig):
    """Short factual questions. For evaluation only: `forkdiv sample`, `compare` and `evaluate` with
    a checkpoint accept it; `train`, `dataset` and `study` do not."""

    kind: Literal["short_facts"] = "short_facts"


class ShortFacts(Task):
    """The task; the module docstring shows a problem."""

    config_class = FactsConfig
    config: FactsConfig

    subsets = tuple(FACTS)

    def __init__(self, config: FactsConfig) -> None:
        super().__init__(config)
        self.sizes = {split: self.available(split) for split in ("validation", "test")}

    def available(self, split: str) -> int:
        return sum(len(_of_split(topic, split)) for topic in FACTS)

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of the topics in turn. Raises UserError if the split has fewer."""
        requested = even_count(self, split, count)
        problems = []
        for i in range(requested):
            topic = self.subsets[i % len(self.subsets)]
            facts = _of_split(topic, split)
            order = Shuffled(len(facts), f"{split}/{topic}/{self.config.seed}")
            problems.append(_problem(topic, facts[order(i // len(self.subsets))], split))
        return problems

    def solutions(self, problem: Problem) -> list[Trace]:
        return [Trace(rf"The answer is \boxed{{{problem.facts['answers'][0]}}}.", WORDS)]

    def references(self, problem: Problem) -> Sequence[str]:
        return tuple(map(normal, problem.facts["answers"]))

    def verify(self, problem: Problem, text: str) -> Verdict:
        r"""Reads the content of `\boxed{}`; without a box, the text after the last "answer is",
        else the last line. It must be the answer and nothing else: the right answer among several
        answers or within a sentence is not correct.

        Case, accents, quotes, closing punctuation, a leading article and thousands separators are
        ignored; see `normal`.
        """
        boxes = {normal(box or "") for box in every_box(text)}
        if len(boxes) > 1:
            return Verdict(Outcome.WRONG, " | ".join(sorted(boxes)), SEVERAL)
        answer = boxes.pop() if boxes else normal(_unboxed(text))
        if not answer:
            return Verdict(Outcome.UNPARSABLE, None, NO_ANSWER)
        if answer in map(normal, problem.facts["answers"]):
            return Verdict(Outcome.CORRECT, answer)
        return Verdict(Outcome.WRONG, answer, OTHER_ANSWER)

    def canaries(self) -> list[tuple[Problem, str, Outcome]]:
        canaries = []
        for problem in self.heldout("validation", len(self.subsets)):
            right = problem.facts["answers"][0]
            canaries += [
                (problem, self.solutions(problem)[0].text, Outcome.CORRECT),
                (problem, f"I recall it.\nThe answer is {right}.", Outcome.CORRECT),
                (problem, rf"\boxed{{not {right}}}", Outcome.WRONG),
                (problem, rf"\boxed{{{right}}} or \boxed{{another}}", Outcome.WRONG),
                (problem, r"The answer is \boxed{}.", Outcome.UNPARSABLE),
                (problem, "\n", Outcome.UNPARSABLE),
            ]
        return canaries


def normal(answer: str) -> str:
    """Returns an answer in normal form: `The “Bogotá”.` and `bogota` become equal."""
    answer = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", answer)
    letters = unicodedata.normalize("NFD", answer.casefold())
    # ø is not decomposed into a letter and an accent
    answer = "".join(c for c in letters if not unicodedata.combining(c)).replace("ø", "o")
    # at the ends only: otherwise 1*2 would become 12
    answer = answer.strip(WRAPPING).rstrip(WRAPPING + ".!?:;,")
    answer = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", answer)
    answer = " ".join(re.sub(r"(?<=[a-z])-(?=[a-z])", " ", answer).split())
    return re.sub(r"^(?:the|an?) (?=\w)", "", answer)


def _unboxed(text: str) -> str:
    stated = re.findall(r"\banswer\s+is\b\s*:?\s*(.*)", text, re.IGNORECASE)
    lines = text.strip().splitlines()
    return stated[-1] if stated else lines[-1] if lines else ""


def _of_split(topic: str, split: str) -> list[Fact]:
    """Returns a topic's facts of a split; the first in order of their hashes are for validation."""
    ordered = sorted(FACTS[topic], key=lambda fact: _digest(fact[0]))
    parts = {
        "validation": ordered[:VALIDATION_PER_TOPIC],
        "test": ordered[VALIDATION_PER_TOPIC:],
    }
    return parts.get(split, [])


def _problem(topic: str, fact: Fact, split: str) -> Problem:
    question, answers = fact
    prompt = f"{question}\nPut the answer, and nothing else, in " r"\boxed{}."
    return Problem(f"{topic}-{_digest(question)}", split, topic, prompt, {"answers": list(answers)})


def _digest(question: str) -> str:
    return hashlib.blake2b(question.encode(), digest_size=10).hexdigest()
