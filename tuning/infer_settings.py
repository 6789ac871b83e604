"""Settings that a file of problems and two checkpoints suggest, where the user gave none.

Each guess is said, so that it can be corrected by the setting it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import PromptConfig, StudyConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.models.checkpoint import read_config
from forkdiv.models.prompting import check_template
from forkdiv.tasks.graders.infer import infer_grader
from forkdiv.tasks.own_data.checked import read_rows
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build

LOOKED_AT = 200  # rows
MOST_TOKENS = 512


def infer(study: StudyConfig, checkpoints: Sequence[Path]) -> tuple[StudyConfig, list[str]]:
    """The study with a task for its `data`, a prompt template that every checkpoint has, and
    room for an answer; and what of it was guessed, a line each.

    Raises UserError where the file cannot be read or its prompts do not fit.
    """
    said: list[str] = []
    update: dict[str, Any] = {}
    if study.data is not None:
        update["task"], how = _task(study)
        said += [how] if how else []
    if "prompt" not in study.model_fields_set and update:
        template = "chat" if all(map(_has_chat, checkpoints)) else "raw"
        update["prompt"] = study.prompt.model_copy(update={"template": template})
        why = "every checkpoint has one" if template == "chat" else "not all have a chat template"
        said.append(f"prompt.template={template} ({why})")
    study = study.model_copy(update=update)
    if study.data is not None and "max_new_tokens" not in study.decoder.model_fields_set:
        room = _room(study, checkpoints)
        decoder = study.decoder.model_copy(update={"max_new_tokens": room})
        study = study.model_copy(update={"decoder": decoder})
        said.append(f"decoder.max_new_tokens={room}")
    return study, said


def _task(study: StudyConfig) -> tuple[FileConfig, str]:
    given = study.task if study.task.kind == "file" else FileConfig(test=study.data)
    assert isinstance(given, FileConfig)
    assert study.data is not None
    task = given.model_copy(update={"train": None, "test": study.data})
    if study.task.kind == "file" and "grader" in given.model_fields_set:
        return task, ""
    read = read_rows(study.data, task.format, task.columns, frozenset({"answer", "completion"}))
    grader, why = infer_grader(read.rows[:LOOKED_AT])
    return task.model_copy(update={"grader": grader}), f"task.grader={grader} ({why})"


def _has_chat(checkpoint: Path) -> bool:
    try:
        check_template(checkpoint, PromptConfig(template="chat"))
    except UserError:
        return False
    return True


def _room(study: StudyConfig, checkpoints: Sequence[Path]) -> int:
    """Tokens for an answer: what every context leaves beside the longest prompt, at most
    MOST_TOKENS."""
    from forkdiv.models.loading import load_tokenizer
    from forkdiv.models.prompting import prompt_ids

    problems = build(study.task).heldout(study.eval.split, study.eval.problems)
    rooms = []
    for folder in checkpoints:
        context = read_config(folder).get("max_position_embeddings") or 1 << 30
        tokenizer = load_tokenizer(folder)
        lengths = {one.id: len(prompt_ids(tokenizer, one.prompt, study.prompt)) for one in problems}
        longest = max(lengths, key=lengths.__getitem__)
        if lengths[longest] >= context:
            raise refuse(
                f"the prompt of problem {longest} does not fit the context of {folder}",
                f"{lengths[longest]} tokens",
                f"fewer than {context} tokens",
                "remove the problem, or use a checkpoint with a longer context",
            )
        rooms.append(context - lengths[longest])
    return min(MOST_TOKENS, *rooms)
