"""Repair a dataset at its decision points: add solutions where branches are missing.

forkdiv synthesize --config synthesis dataset.synthesis=enumerator
forkdiv synthesize --data FILE base=CHECKPOINT synthesis.budget=2000
"""

from __future__ import annotations

import json
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import progress_shown
from forkdiv.core.records import Example
from forkdiv.core.store import check_place, write_text
from forkdiv.data import dataset, inputs
from forkdiv.forks import synthesis
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import preflight
from tuning.resources import Work
from tuning.space import check_data

Repaired = tuple[list[Example], synthesis.SynthesisReport]


def run(study: StudyConfig) -> None:
    study = _with_synthesis(study)
    task = build(study.task)
    synthesis.check(task, study.dataset.synthesis)
    preflight.check_device(study.place)
    base = preflight.check_base(study, task)
    check_place(study.place)
    rows, report = _sampled(study, base) if _samples(study) else _listed(study, base)
    out = _write(study, rows, report)
    say(report.sentence())
    say(json.dumps(report.as_json(), indent=1))
    say(f"dataset: {out}")


def _samples(study: StudyConfig) -> bool:
    return study.dataset.synthesis == synthesis.SAMPLES


def _listed(study: StudyConfig, base: Checkpoint) -> Repaired:
    """Repairs the data with solutions that the task lists, without Ray."""
    with progress_shown(study, "synthesize", say) as progress:
        rows = list(inputs.examples(study, progress))
        return synthesis.repair(study, build(study.task), rows, base, None, progress)


def _sampled(study: StudyConfig, base: Checkpoint) -> Repaired:
    """Repairs the data with samples of the base that the grader judges as correct."""
    from tuning.open_study import open_study

    preflight.check_ports(study.place)
    rows = list(inputs.examples(study, say))
    with open_study(study, base, "synthesize", say, Work(trains=study.base is None)) as work:
        return synthesis.repair(
            work.study, build(study.task), rows, work.base, work.sampler, work.progress
        )


def _with_synthesis(study: StudyConfig) -> StudyConfig:
    """Returns the study with the task of its data, without a sweep, and with dataset.synthesis set:
    listed solutions if the task can list them, otherwise samples."""
    study = inputs.with_task_of_data(study.model_copy(update={"sweep": type(study.sweep)()}))
    if study.dataset.synthesis == "none":
        source = synthesis.ENUMERATOR if build(study.task).enumerates else synthesis.SAMPLES
        data = study.dataset.model_copy(update={"synthesis": source})
        study = study.model_copy(update={"dataset": data})
    if study.data is None:
        check_data(study)
    return study


def _write(study: StudyConfig, rows: list[Example], report: synthesis.SynthesisReport) -> Path:
    """Writes the repaired data as Parquet with its card, and as JSONL for other tools."""
    out = study.folder / "synthesized"
    out.mkdir(parents=True, exist_ok=True)
    data_identity = Identity("synthesis", {"dataset": study.dataset, "synthesis": study.synthesis})
    more = {"synthesis": {"way": study.dataset.synthesis, **report.as_json()}}
    dataset.write(out, rows, data_identity, build(study.task), more=more)
    lines = [{"prompt": row.prompt, "completion": row.response, **_answer(row)} for row in rows]
    write_text(
        out / "examples.jsonl",
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
    )
    return out


def _answer(row: Example) -> dict[str, str]:
    facts = json.loads(row.facts)
    return {"answer": str(facts["answer"])} if "answer" in facts else {}


if __name__ == "__main__":
    cli.run_job("synthesize")
