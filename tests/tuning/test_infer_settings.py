"""What a file of problems suggests, where its user says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.tasks.graders.infer import infer_grader
from forkdiv.tasks.own_data.columns import Row
from tests.checkpoints_tokens import chat_checkpoint
from tests.stack import BASE
from tuning.infer_settings import infer


def rows(*pairs: tuple[str | None, str | None]) -> list[Row]:
    return [
        Row(str(i), "q", completion, answer, "", i) for i, (completion, answer) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("given", "grader"),
    [
        (rows(("so\n#### 3", None), ("#### 1,000", None)), "hash"),
        (rows(("so \\boxed{3}", None), ("\\boxed{x}", "x")), "math"),
        (rows(("so \\boxed{003}", "3"), ("\\framebox{12}, as 12 < 13", "12")), "math"),
        (rows(("so \\boxed{3}", "3"), ("so it is \\boxed{4}", "4"), ("It is 5.", "5")), "math"),
        (rows(("so \\boxed{7A}", "7A"), ("\\boxed{143}", "143")), "boxed"),
        (rows(("3\n#### 3", "3"), ("#### 4", "4")), "hash"),
        (rows((None, "\\frac{1}{2}"), (None, "12\\text{ cm}"), (None, "Paris")), "math"),
        (rows((None, "10,\\!000"), (None, "\\$32,\\!348")), "numeric"),
        (rows((None, "(3,4)"), (None, "12")), "math"),
        (rows((None, "0,1"), (None, "12")), "math"),
        (rows((None, "x + 1"), (None, "2x")), "math"),
        (rows((None, "Paris, France"), (None, "Rome, Italy")), "exact"),
        (rows((None, "\\text{(C)}"), (None, "B")), "choice"),
        (rows((None, "A"), (None, "(C)")), "choice"),
        (rows((None, "12"), (None, "-3.5"), ("any text", "1/2")), "numeric"),
        (rows((None, "$x^2$"), (None, "12")), "math"),
        (rows((None, "Paris"), (None, "12")), "exact"),
        (rows(("#### 3", None), ("no mark", None)), "exact"),
        ([], "exact"),
    ],
)
def test_the_grader_is_the_one_that_every_reference_was_made_for(
    given: list[Row], grader: str
) -> None:
    assert infer_grader(given)[0] == grader


def problems(folder: Path) -> Path:
    path = folder / "problems.jsonl"
    lines = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_inferred_settings_are_reported_and_set_ones_are_kept(tmp_path: Path) -> None:
    data = f"data={problems(tmp_path)}"
    study, said = infer(load(None, [data]), [BASE])
    assert study.task.model_dump()["grader"] == "numeric"
    assert study.prompt.template == "raw"
    assert 0 < study.decoder.max_new_tokens <= 512
    assert [line.split("=")[0] for line in said] == [
        "task.grader",
        "prompt.template",
        "decoder.max_new_tokens",
    ]
    given = [
        "task={kind: file, grader: exact}",
        "prompt.template=plain",
        "decoder.max_new_tokens=9",
    ]
    study, said = infer(load(None, [data, *given]), [BASE])
    assert said == []
    assert (study.task.model_dump()["grader"], study.prompt.template) == ("exact", "plain")
    assert study.decoder.max_new_tokens == 9


def test_nothing_is_inferred_for_a_task_of_forkdiv() -> None:
    study = load(None, [])
    assert infer(study, [BASE]) == (study, [])


def test_a_prompt_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"question": "a " * 2000, "answer": "1"}) + "\n")
    with pytest.raises(UserError, match=r"long\.jsonl line 1: 2,001 tokens with a context of"):
        infer(load(None, [f"data={path}"]), [BASE])


def test_a_checkpoint_without_a_template_is_offered_the_others(tmp_path: Path) -> None:
    chat = chat_checkpoint(tmp_path / "chat")
    data = f"data={problems(tmp_path)}"
    _, said = infer(load(None, [data]), [BASE, chat])
    offered = f"prompt.template=chat prompt.chat_template={chat} asks all with that of this one"
    assert f"prompt.template=raw (not every checkpoint has a chat template; {offered})" in said
    study, said = infer(load(None, [data, "prompt.date=2027-01-01"]), [chat])
    assert study.prompt.template == "chat" and study.prompt.date == "2027-01-01"


def test_a_template_that_refuses_the_prompts_is_quoted_before_work(tmp_path: Path) -> None:
    template = "{{ raise_exception('No users!') }}"
    chat = chat_checkpoint(tmp_path / "chat", template)
    with pytest.raises(UserError, match="refuses a prompt: got No users!"):
        infer(load(None, [f"data={problems(tmp_path)}"]), [chat])
