"""Responses with thinking: the answer after it is graded, and what is cut off inside it is counted
apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.records import Completion, Finish, Outcome, Problem
from forkdiv.core.thinking import TAGS, UNCLOSED, Thinking, continuation, tags_of
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.thinking import opening_tag
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score import verdicts
from forkdiv.score.counts import ProblemCounts
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build
from tests import small_llama
from tests.checkpoints_tokens import CHATML, chat_checkpoint
from tests.stack import BASE

THINK = Thinking("<think>", "</think>")
OPENED = Thinking("<think>", "</think>", opened=True)
PLAIN = "plain"


@pytest.mark.parametrize(
    ("thinking", "text", "answer"),
    [
        (THINK, "5", "5"),
        (THINK, "<think>\n4\n</think>\n\n5", "5"),
        (THINK, "4</think>5", "5"),
        (THINK, "<think>4</think>", ""),
        (THINK, "<think>a</think>b<think>c</think>d", "d"),
        (THINK, "<think>4", None),
        (THINK, "<think>4</think>5<think>6", None),
        (THINK, "<think>4</thin", None),
        (OPENED, "4</think>\n5", "5"),
        (OPENED, "4", None),
        (OPENED, "", None),
        (Thinking("", "FINAL:"), "4 FINAL: 5", "5"),
    ],
)
def test_the_answer_is_what_follows_the_last_closing_tag(
    thinking: Thinking, text: str, answer: str | None
) -> None:
    assert thinking.answer_in(text) == answer


@given(st.text(alphabet="ab<>/think \n"), st.sampled_from(TAGS))
def test_an_answer_never_has_thinking(text: str, tags: tuple[str, str]) -> None:
    answer = Thinking(*tags).answer_in(text)
    assert answer is None or not any(tag in answer for tag in tags)


@pytest.mark.parametrize(
    ("end", "tags"),
    [
        ("</think>", ("<think>", "</think>")),
        ("</reflect>", ("<reflect>", "</reflect>")),
        ("<|end_of_thought|>", ("<|begin_of_thought|>", "<|end_of_thought|>")),
        ("FINAL:", ("", "FINAL:")),
    ],
)
def test_the_opening_tag_follows_from_the_closing_one(end: str, tags: tuple[str, str]) -> None:
    assert tags_of(end) == tags


@pytest.mark.parametrize(
    ("prompt", "response", "continued"),
    [
        ("…assistant\n<think>\n", "<think>\nso</think>5", "so</think>5"),
        ("…assistant\n<think>", "<think>\nso</think>5", "\nso</think>5"),
        ("…assistant\n<think>\n", "so</think>5", "so</think>5"),
        ("…assistant\n", "<think>\nso</think>5", "<think>\nso</think>5"),
        ("…<think>\n\n</think>\n\n", "<think>\nso</think>5", "<think>\nso</think>5"),
    ],
)
def test_a_tag_that_the_prompt_opens_is_not_opened_again(
    prompt: str, response: str, continued: str
) -> None:
    assert continuation(prompt, response) == continued


def problem(answer: str) -> Problem:
    return Problem("p", "test", "problems", "2 + 3?", {"answer": answer})


def counted(grader: str, thinking: Thinking | None, *texts: str) -> ProblemCounts:
    task = build(FileConfig(test=Path("unread.jsonl"), grader=grader))
    completions = [Completion("p", n, n, text, (), Finish.STOP) for n, text in enumerate(texts)]
    (counts,) = verdicts.count(task, [problem("5")], completions, thinking=thinking)
    return counts


@pytest.mark.parametrize("grader", ["exact", "numeric", "hash", "boxed", "math"])
def test_an_answer_inside_the_thinking_is_not_graded(grader: str) -> None:
    written = {"hash": "#### {}", "boxed": "\\boxed{{{}}}", "math": "\\boxed{{{}}}"}
    right, wrong = (written.get(grader, "{}").format(n) for n in (5, 4))
    thought_right = f"<think>\n{right}\n</think>\n\n{wrong}"
    thought_wrong = f"<think>\n{wrong}\n</think>\n\n{right}"
    counts = counted(grader, THINK, thought_right, thought_wrong, right, f"<think>{right}")
    assert (counts.correct, counts.wrong, counts.unparsable) == (2, 1, 1)
    unread = counted(grader, OPENED, right, f"{wrong}</think>{right}")
    assert (unread.correct, unread.unparsable) == (1, 1)


def test_a_response_cut_off_in_its_thinking_is_counted_apart() -> None:
    task = build(FileConfig(test=Path("unread.jsonl"), grader="numeric"))
    texts = ["<think> 5", "<think> 5 </think> 5", "5"]
    cut = [Completion("p", n, n, text, (), Finish.LENGTH) for n, text in enumerate(texts)]
    for thinking, inside in ((None, 0), (THINK, 1), (OPENED, 2)):
        (counts,) = verdicts.count(task, [problem("5")], cut, thinking=thinking)
        assert (counts.truncated, counts.truncated_thinking) == (3, inside)


def test_solutions_that_differ_in_their_thinking_only_are_one() -> None:
    texts = [f"<think>{n}</think>5" for n in range(4)]
    assert counted("exact", THINK, *texts).solutions == {4: 1}


def test_only_responses_with_thinking_have_other_verdicts() -> None:
    texts = ("5", "4", "five", "the result is 5.")
    assert counted("numeric", None, *texts) == counted("numeric", THINK, *texts)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("models")
    templates = {
        PLAIN: CHATML,
        "opens": CHATML + "<think>\n",
        "may open": CHATML + "{% if thinks %}<think>\n{% endif %}",
        "closes": CHATML + "<think>\n\n</think>\n\n",
        "other": CHATML + "{% if false %}[/THINK]{% endif %}",
    }
    return {
        name: open_checkpoint(chat_checkpoint(folder / name.replace(" ", "-"), template))
        for name, template in templates.items()
    }


def evaluation(end: str | None = None, **prompt: object) -> Evaluation:
    config = PromptConfig.model_validate({"template": "chat", **prompt})
    task = build(FileConfig(test=Path("unread.jsonl"), grader="numeric"))
    task.thinking_tags = None  # it would read the file
    return Evaluation(task, EvalConfig(thinking_end=end), DecoderConfig(), config)


def test_thinking_is_found_in_the_template_and_how_the_prompt_begins_it(
    models: dict[str, Checkpoint],
) -> None:
    def of(name: str, evaluation: Evaluation) -> Thinking | None:
        return evaluation.thinking(models[name])

    plain = evaluation()
    assert of(PLAIN, plain) is None
    assert of("opens", plain) == OPENED
    assert of("closes", plain) == of("may open", plain) == THINK
    assert of("may open", evaluation(template_args={"thinks": True})) == OPENED
    assert of("other", plain) == Thinking("[THINK]", "[/THINK]")
    assert of(PLAIN, evaluation("</reflect>")) == Thinking("<reflect>", "</reflect>")
    assert of("opens", evaluation(template="raw")) is None
    assert plain.thinking(Checkpoint(Path("planned"), "planned")) is None


def test_thinking_is_found_in_the_vocabulary(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(chat_checkpoint(tmp_path / "first", None))
    tokenizer.add_tokens(["<think>", "</think>"])
    folder = small_llama.write(tmp_path / "model", tokenizer)
    found = evaluation(template="raw").thinking(Checkpoint(folder, "added"))
    assert found == THINK


def test_only_models_with_thinking_have_it_in_the_identity_of_their_verdicts(
    models: dict[str, Checkpoint],
) -> None:
    plain = evaluation()
    assert "thinking" not in plain.grading(models[PLAIN])
    assert plain.grading(models["opens"])["thinking"] == OPENED.as_json()
    assert evaluation(template="raw").grading(open_checkpoint(BASE)) == plain.task.grading()


def test_the_tag_that_a_template_opens_is_found(models: dict[str, Checkpoint]) -> None:
    chat = PromptConfig(template="chat")
    assert opening_tag(models["opens"].path, chat) == "<think>"
    assert opening_tag(models[PLAIN].path, chat) == ""
    assert opening_tag(models["closes"].path, chat) == ""
    assert opening_tag(models["opens"].path, PromptConfig()) == ""
    assert opening_tag(None, chat) == ""


def test_an_unclosed_response_is_unparsable_and_says_why() -> None:
    task = build(FileConfig(test=Path("unread.jsonl"), grader="numeric"))
    with Grader(task, thinking=THINK) as grader:
        first, second = grader.grade([(problem("5"), "<think>5"), (problem("5"), "5")])
    assert (first.outcome, first.detail) == (Outcome.UNPARSABLE, UNCLOSED)
    assert second.outcome is Outcome.CORRECT
