"""What a user is told about prompts before work starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.study import StudyConfig
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.prompting import encode
from forkdiv.tasks.own_data.config import FileConfig
from tests.checkpoints_tokens import CHATML, chat_checkpoint
from tuning.prompt_notes import notes

TEMPLATES = {
    "plain": CHATML,
    "opens": CHATML + "{{ '<think>\n' }}",  # jinja2 drops a line feed at the end of a template
    "may": CHATML + "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: chat_checkpoint(root / name, text) for name, text in TEMPLATES.items()}


def study(tmp_path: Path, completions: list[str], **args: object) -> StudyConfig:
    file = tmp_path / "train.jsonl"
    rows = [{"prompt": f"{n} + 0?", "completion": text} for n, text in enumerate(completions)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return StudyConfig(
        prompt=PromptConfig.model_validate({"template": "chat", "template_args": args}),
        task=FileConfig(train=file, grader="none"),
    )


def test_an_argument_that_a_template_never_reads_is_named(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    mistyped = study(tmp_path, ["5"], enable_thinkng=False, enable_thinking=True)
    (note,) = notes(mistyped, [folders["may"]])
    assert "does not read enable_thinkng of prompt.template_args" in note
    assert note.endswith("; it reads enable_thinking") and str(folders["may"]) in note
    both = notes(mistyped, [folders["may"], folders["plain"]])
    assert len(both) == 2 and "enable_thinking, enable_thinkng" in both[1]
    assert not notes(study(tmp_path, ["5"], enable_thinking=True), [folders["may"]])


def test_examples_that_open_the_thinking_again_are_counted(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    completions = ["<think>a</think>1", "\n<think>b</think>2", "c</think>3"]
    data = study(tmp_path, completions * 20)
    (note,) = notes(data, [folders["opens"]], trains=True)
    assert "ends its prompts with <think>, and " in note and "trained on without it" in note
    assert not notes(data, [folders["opens"]]), "nothing is trained"
    assert not notes(data, [folders["plain"]], trains=True)


def test_examples_that_never_close_the_thinking_are_counted(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    (note,) = notes(study(tmp_path, ["1"] * 3), [folders["opens"]], trains=True)
    assert "have no </think>: the model learns to answer inside its thinking" in note


def test_what_is_trained_on_opens_the_thinking_once(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["opens"])
    config = PromptConfig(template="chat")
    opened, closed = (
        encode(tokenizer, "2?", text, config) for text in ("<think>\na</think>2", "a</think>2")
    )
    assert opened == closed
    text = tokenizer.decode(opened[0] + opened[1])
    assert text.count("<think>") == 1 and "assistant\n<think>\na</think>2" in text
    plain = load_tokenizer(folders["plain"])
    assert tokenizer.decode(encode(plain, "2?", "<think>a", config)[1]).startswith("<think>a")
