"""Infers settings that the user did not set from the file of problems and the checkpoints.

Every inferred setting is reported with its name, so that the user can set it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.core.config.study import PromptConfig, StudyConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import check_files, read_config
from forkdiv.models.prompting import BETWEEN_SHOTS, check_template
from forkdiv.models.shape import context_length
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.graders.infer import infer_grader
from forkdiv.tasks.own_data.checked import read_rows
from forkdiv.tasks.own_data.config import FileConfig
from tuning import benchmark_settings, row_lengths

INSPECTED_ROWS = 200
MAX_NEW_TOKENS = 512


def infer(study: StudyConfig, checkpoints: Sequence[Path]) -> tuple[StudyConfig, list[str]]:
    """Returns the study with a task for its `data`, a prompt template that every checkpoint has,
    and a decoder.max_new_tokens that fits; and the inferred settings, one line each.

    Raises UserError for a checkpoint that cannot be loaded, a file that cannot be read, and a
    prompt that does not fit the context.
    """
    for checkpoint in checkpoints:
        check_files(checkpoint)
    messages: list[str] = []
    update: dict[str, Any] = {}
    if study.data is not None:
        update["task"], message = _task(study)
        messages += [message] if message else []
    if update and not study.prompt.model_fields_set & {"template", "text"}:
        template = "chat" if all(map(_has_chat, checkpoints)) else "raw"
        update["prompt"] = study.prompt.model_copy(update={"template": template})
        has = "every checkpoint has" if template == "chat" else "not every checkpoint has"
        offer = "" if template == "chat" else _offered_template(checkpoints)
        messages.append(f"prompt.template={template} ({has} a chat template{offer})")
    study = benchmark_settings.resolve(study.model_copy(update=update))
    if isinstance(study.task, BenchmarkConfig):
        messages += _of_benchmark(study)
    if line := _stop_after_shots(study):
        study = study.model_copy(
            update={"decoder": study.decoder.model_copy(update={"stop": (line,)})}
        )
        messages.append(f"decoder.stop={json.dumps([line])}")
    if study.data is not None:
        study = row_lengths.fitting(study, checkpoints, trains=False, show=messages.append)
    if study.data is not None and "max_new_tokens" not in study.decoder.model_fields_set:
        max_new_tokens = _max_new_tokens(study, checkpoints)
        decoder = study.decoder.model_copy(update={"max_new_tokens": max_new_tokens})
        study = study.model_copy(update={"decoder": decoder})
        messages.append(f"decoder.max_new_tokens={max_new_tokens}")
    return study, messages


def _task(study: StudyConfig) -> tuple[FileConfig, str]:
    """Returns the task for the study's `data`, and a message about its inferred grader (empty if
    the user set the grader)."""
    is_own = isinstance(study.task, FileConfig)
    config = study.task if isinstance(study.task, FileConfig) else FileConfig(test=study.data)
    assert study.data is not None
    if isinstance(config, BenchmarkConfig):  # its training split is where shots come from
        return config.model_copy(update={"test": study.data}), ""
    task = config.model_copy(update={"train": None, "test": study.data})
    if is_own and "grader" in config.model_fields_set:
        return task, ""
    read = read_rows(study.data, task.format, task.columns, frozenset({"answer", "completion"}))
    grader, reason = infer_grader(read.rows[:INSPECTED_ROWS])
    return task.model_copy(update={"grader": grader}), f"task.grader={grader} ({reason})"


def _stop_after_shots(study: StudyConfig) -> str:
    """Returns the text at which a model that continues shots goes on to another problem: an empty
    line and the beginning of prompt.text. Empty if the user set decoder.stop, if there are no shots
    as text, or if a shot's own response contains that text."""
    prompt = study.prompt
    decoder = study.decoder
    is_set = "stop" in decoder.model_fields_set or decoder.tree_samples
    if not prompt.shots or prompt.template == "chat" or is_set:
        return ""
    before = prompt.text.partition("{prompt}")[0].strip() if prompt.template == "plain" else ""
    stop = BETWEEN_SHOTS + before
    shots = Evaluation.of(study).shots.ordered
    return "" if any(stop in answered for _, answered in shots) else stop


def _of_benchmark(study: StudyConfig) -> list[str]:
    assert isinstance(study.task, BenchmarkConfig)
    lines = [f"task.wording={study.task.wording}", f"task.grader={study.task.grader}"]
    if study.decoder.stop:
        lines.append(f"decoder.stop={json.dumps(study.decoder.stop)}")
    return lines


def _offered_template(checkpoints: Sequence[Path]) -> str:
    """Returns how all checkpoints can be asked with the template of one of them, if one has it."""
    folder = next(filter(_has_chat, checkpoints), None)
    if folder is None:
        return ""
    return f"; prompt.template=chat prompt.chat_template={folder} asks all with that of this one"


def _has_chat(checkpoint: Path) -> bool:
    try:
        check_template(checkpoint, PromptConfig(template="chat"))
    except UserError:
        return False
    return True


def _max_new_tokens(study: StudyConfig, checkpoints: Sequence[Path]) -> int:
    """Returns the number of tokens that every checkpoint's context leaves after the longest prompt,
    at most MAX_NEW_TOKENS, or what the benchmark allows."""
    from forkdiv.models.prompting import prompt_ids

    evaluation = Evaluation.of(study)
    task = study.task
    most = task.found.max_new_tokens if isinstance(task, BenchmarkConfig) else MAX_NEW_TOKENS
    free = [most]
    for folder in checkpoints:
        context = context_length(read_config(folder)) or 1 << 30
        tokenizer = own_tokenizer(folder).tokenizer
        lengths = {
            problem.id: len(prompt_ids(tokenizer, problem.prompt, evaluation.prompt))
            for problem in evaluation.asked_problems
        }
        longest = max(lengths, key=lengths.__getitem__)
        if lengths[longest] >= context:
            raise refuse(
                f"the prompt of problem {longest} does not fit the context of {folder}",
                f"{lengths[longest]} tokens",
                f"fewer than {context} tokens",
                "remove the problem, use a checkpoint with a longer context, or lower prompt.shots"
                if evaluation.shots.count
                else "remove the problem, or use a checkpoint with a longer context",
            )
        free.append(context - lengths[longest])
    return min(free)
