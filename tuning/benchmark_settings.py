"""Settings that follow from a benchmark and that the user did not set: its wording, the texts that
end a response, and its file where it is named in place of one."""

from __future__ import annotations

from typing import Any

from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import StudyConfig


def resolve(study: StudyConfig) -> StudyConfig:
    """Returns the study with what follows from its benchmark; without one, the study itself.

    Models that are asked by a text go on after their answer, so the benchmark's `stop` ends it.
    """
    task = study.task
    if not isinstance(task, BenchmarkConfig):
        return study
    wording = task.wording or ("chat" if study.prompt.template == "chat" else "text")
    update: dict[str, Any] = {"task": task.model_copy(update={"wording": wording})}
    if wording == "text":
        stop = task.found.stop
        update["decoder"] = _stopping(study.decoder, stop)
        update["decoders"] = {name: _stopping(own, stop) for name, own in study.decoders.items()}
    return study.model_copy(update=update)


def _stopping(decoder: DecoderConfig, stop: tuple[str, ...]) -> DecoderConfig:
    """Returns the decoder with these texts as `stop`, unless it has its own or draws trees, whose
    branches cannot end at a text."""
    if "stop" in decoder.model_fields_set or decoder.tree_samples:
        return decoder
    return decoder.model_copy(update={"stop": stop})
