r"""Short facts: one undisputed answer each, read strictly, in equal shares by topic."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Outcome, Problem
from forkdiv.tasks import short_facts as module
from forkdiv.tasks.registry import build
from forkdiv.tasks.short_facts import FACTS, FactsConfig, ShortFacts, normal

TASK = ShortFacts(FactsConfig())
TEST, VALIDATION = TASK.heldout("test"), TASK.heldout("validation")
PROBLEMS = TEST + VALIDATION
WAYS = [
    r"\boxed{{{}}}",
    r"So it is \boxed{{ {} }}.",
    r"\boxed{{\text{{{}}}}}",
    r"\boxed{{7 no}} was rash: \boxed{{{}}}",
    "The answer is {}.",
    "It is old.\nThe answer is: **{}**",
    "the answer  is\n{}",
    "Let me think.\n\n{}\n",
]


def named(prompt: str) -> Problem:
    return next(problem for problem in PROBLEMS if prompt in problem.prompt)


# --- the table ----------------------------------------------------------------------------------


def test_every_topic_has_forty_questions_and_none_is_asked_twice() -> None:
    assert {topic: len(facts) for topic, facts in FACTS.items()} == dict.fromkeys(FACTS, 40)
    questions = [question for facts in FACTS.values() for question, _ in facts]
    assert len(set(questions)) == len(questions) == 160
    assert all(question.endswith("?") for question in questions)


def test_where_answers_are_names_no_two_questions_share_one() -> None:
    for topic in ("elements", "capitals", "words"):
        spellings = [normal(one) for _, answers in FACTS[topic] for one in answers]
        assert len(set(spellings)) == len(spellings)


def test_no_accepted_answer_vanishes_when_it_is_normalised() -> None:
    for facts in FACTS.values():
        for question, answers in facts:
            assert all(normal(one) for one in answers), question


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("the element tungsten?", "W"),
        ("capital of Colombia?", "Bogotá"),
        ("capital of Cambodia?", "Phnom Penh"),
        ("How many seconds are there in an hour?", "3600"),
        ("How many millimetres are there in a centimetre?", "10"),
        ('past tense of the English verb "go"?', "went"),
        ('plural of the English noun "crisis"?', "crises"),
    ],
)
def test_the_tables_read_as_they_are_meant(question: str, answer: str) -> None:
    assert named(question).facts["answers"][0] == answer


# --- verdicts -----------------------------------------------------------------------------------


def test_every_accepted_answer_verifies_in_every_way_of_giving_it() -> None:
    for problem in PROBLEMS:
        assert TASK.verify(problem, TASK.solutions(problem)[0].text).outcome is Outcome.CORRECT
        for answer in problem.facts["answers"]:
            for way in WAYS:
                text = way.format(answer)
                several = text.count("boxed") > 1
                expected = Outcome.WRONG if several else Outcome.CORRECT
                assert TASK.verify(problem, text).outcome is expected, text


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(PROBLEMS), st.sampled_from(WAYS), st.data())
def test_a_corrupted_answer_does_not_verify(
    problem: Problem, way: str, data: st.DataObject
) -> None:
    right = problem.facts["answers"][0]
    at = data.draw(st.integers(0, len(right)))
    letter = data.draw(st.sampled_from([*"aeioqz0123789", "-", "=", "/", ".5", "1*", ""]))
    text = right[:at] + letter + right[at + data.draw(st.integers(0, 1)) :]
    accepted = {normal(one) for one in problem.facts["answers"]}
    assume(normal(text) not in accepted)
    assert TASK.verify(problem, way.format(text)).outcome is not Outcome.CORRECT


@given(st.sampled_from(PROBLEMS), st.sampled_from(PROBLEMS), st.sampled_from(WAYS))
def test_one_among_several_answers_is_not_correct(
    problem: Problem, other: Problem, way: str
) -> None:
    right, wrong = problem.facts["answers"][0], other.facts["answers"][0]
    assume(normal(wrong) not in map(normal, problem.facts["answers"]))
    for pair in [(right, wrong), (wrong, right)]:
        for joint in (" or ", ", ", "/", " ", "; ", " and ", "\n"):
            several = joint.join(pair)
            if "\n" in several and "boxed" not in way:
                continue  # without a box the last line, or the rest of the line, is the answer
            assert TASK.verify(problem, way.format(several)).outcome is Outcome.WRONG
        boxes = " ".join(rf"\boxed{{{one}}}" for one in pair)
        verdict = TASK.verify(problem, boxes)
        assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, module.SEVERAL)


def test_the_same_answer_in_two_boxes_is_one_answer() -> None:
    for problem in VALIDATION:
        answer = problem.facts["answers"][0]
        text = rf"\boxed{{{answer}}}, that is \boxed{{{answer.upper()}.}}"
        assert TASK.verify(problem, text).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Bogotá", "bogota"),
        ("BOGOTÁ", "Bogota\u0301"),
        ("København", "kobenhavn"),
        ("“Phnom Penh”.", "phnom-penh"),
        ("the Moon", "Moon"),
        ("an ox!", "ox"),
        ("1,000", "1000"),
        (r"\text{Riga}", "riga"),
        ("**8**", "$8$"),
    ],
)
def test_what_makes_no_difference_is_not_compared(first: str, second: str) -> None:
    assert normal(first) == normal(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("-8", "8"),
        ("1.2", "12"),
        ("1*2", "12"),
        ("1,2", "12"),
        ("10,00", "1000"),
        ("1-2", "12"),
        ("1²", "12"),
        ("8/8", "88"),
        ("not 8", "8"),
        ("8%", "8"),
        ("As", "s"),
        ("Riga Oslo", "RigaOslo"),
    ],
)
def test_what_makes_a_difference_is_kept(first: str, second: str) -> None:
    assert normal(first) != normal(second)


@pytest.mark.parametrize(
    "text", ["", " \n", r"\boxed{}", r"\boxed{ . }", r"\boxed{Riga", "The answer is:", "**"]
)
def test_an_empty_answer_does_not_parse(text: str) -> None:
    for problem in VALIDATION:
        verdict = TASK.verify(problem, text)
        assert (verdict.outcome, verdict.answer) == (Outcome.UNPARSABLE, None)


def test_a_sentence_is_not_its_answer_but_the_last_line_may_be_it() -> None:
    problem = named("capital of Latvia?")
    assert TASK.verify(problem, "The capital of Latvia is Riga.").outcome is Outcome.WRONG
    assert TASK.verify(problem, "The capital of Latvia?\nRiga").outcome is Outcome.CORRECT
    text = "The answer is Oslo. Sorry.\nThe answer is Riga."
    assert TASK.verify(problem, text).outcome is Outcome.CORRECT


def test_every_canary_gets_the_verdict_it_is_known_to_deserve() -> None:
    for problem, text, outcome in TASK.canaries():
        assert TASK.verify(problem, text).outcome is outcome, text


# --- splits -------------------------------------------------------------------------------------


def test_the_topics_have_equal_shares_and_no_question_is_in_two_splits() -> None:
    assert Counter(problem.subset for problem in TEST) == dict.fromkeys(FACTS, 30)
    assert Counter(problem.subset for problem in VALIDATION) == dict.fromkeys(FACTS, 10)
    assert len({problem.prompt for problem in PROBLEMS}) == 160
    assert len({problem.id for problem in PROBLEMS}) == 160


def test_a_seed_changes_the_order_and_never_the_split() -> None:
    for seed in range(1, 4):
        task = ShortFacts(FactsConfig(seed=seed))
        again = task.heldout("test")
        assert again != TEST and sorted(again, key=str) == sorted(TEST, key=str)
        assert {p.id for p in task.heldout("validation")} == {p.id for p in VALIDATION}
    assert ShortFacts(FactsConfig()).heldout("test") == TEST


def test_a_longer_list_begins_with_the_shorter() -> None:
    assert TASK.heldout("test", 20) == TEST[:20]


def test_more_problems_than_there_are_or_uneven_shares_are_refused() -> None:
    with pytest.raises(UserError, match="too few distinct problems for the test split"):
        TASK.heldout("test", 124)
    with pytest.raises(UserError, match="must be a multiple of the task"):
        TASK.heldout("test", 30)
    with pytest.raises(UserError, match="too few distinct problems for the train split"):
        TASK.heldout("train", 4)


def test_the_task_has_no_data_to_train_on() -> None:
    with pytest.raises(UserError, match="no fine-tuning data"):
        TASK.sft_examples(DatasetConfig(examples=4))
    with pytest.raises(UserError, match="no random walks"):
        TASK.walk_examples(PretrainConfig(), " ")


def test_build_gives_the_task_of_its_config() -> None:
    assert isinstance(build(FactsConfig()), ShortFacts)
