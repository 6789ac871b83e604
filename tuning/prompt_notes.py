"""Notes about prompts that a user should see before work starts: arguments that a chat template
does not read, and thinking that both the template and the data open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.thinking import tags_of_opening
from forkdiv.models.prompting import read_template, unread_args
from forkdiv.models.thinking import opening_tag
from forkdiv.tasks.own_data.task import OwnData
from forkdiv.tasks.registry import build


def notes(study: StudyConfig, checkpoints: Sequence[Path], trains: bool = False) -> list[str]:
    """Returns the notes about the prompts of the checkpoints, and with `trains` about the
    fine-tuning data after the prompts of the first."""
    if study.prompt.template != "chat" or not checkpoints:
        return []
    found = [note for path in checkpoints for note in _unread(study, path)]
    found += _opened_again(study, checkpoints[0]) if trains else []
    return list(dict.fromkeys(found))


def _unread(study: StudyConfig, path: Path) -> Iterator[str]:
    config = study.prompt
    template = config.chat_template or read_template(path)
    whose = "prompt.chat_template" if config.chat_template else f"the chat template of {path}"
    unread, read = unread_args(template or "", config.template_args, whose)
    if unread:
        names = ", ".join(unread)
        effect = f"of prompt.template_args, which has no effect; it reads {read}"
        yield f"{whose} does not read {names} {effect}"


def _opened_again(study: StudyConfig, path: Path) -> Iterator[str]:
    """Yields notes about examples that open the thinking after a prompt that opened it, and about
    examples that never close it."""
    task = build(study.task)
    opening = opening_tag(path, study.prompt)
    if not opening or not isinstance(task, OwnData):
        return
    responses = [row.completion or "" for row in task.training_rows]
    _, closing = tags_of_opening(opening)
    again = sum(response.lstrip().startswith(opening) for response in responses)
    if again:
        yield (
            f"the chat template of {path} ends its prompts with {opening}, and {again:,} of "
            f"{len(responses):,} examples begin with it again: they are trained on without it"
        )
    unclosed = sum(closing not in response for response in responses)
    if unclosed:
        yield (
            f"the chat template of {path} ends its prompts with {opening}, and {unclosed:,} of "
            f"{len(responses):,} examples have no {closing}: the model learns to answer inside its "
            "thinking; add it to them, or set prompt.template_args or prompt.chat_template to a "
            "prompt without thinking"
        )
