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
from forkdiv.core.store import check_writable, write_text
from forkdiv.data import dataset, inputs
from forkdiv.forks import synthesis
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import preflight
from tuning.space import check_data

Repaired = tuple[list[Example], synthesis.SynthesisReport]


def run(study: StudyConfig) -> None:
    study = _settled(study)
    task = build(study.task)
    synthesis.check(task, study.dataset.synthesis)
    base = preflight.check_base(study, task)
    check_writable(study.place.root, study.place.min_free_mib)
    kept, tally = _sampled(study, base) if _samples(study) else _listed(study, base)
    out = _write(study, kept, tally)
    say(tally.sentence())
    say(json.dumps(tally.report(), indent=1))
    say(f"dataset: {out}")


def _samples(study: StudyConfig) -> bool:
    return study.dataset.synthesis == synthesis.SAMPLES


def _listed(study: StudyConfig, base: Checkpoint) -> Repaired:
    """Repaired with solutions that the task lists: no Ray."""
    with progress_shown(study, "synthesize", say) as progress:
        rows = list(inputs.examples(study, progress))
        return synthesis.repair(study, build(study.task), rows, base, None, progress)


def _sampled(study: StudyConfig, base: Checkpoint) -> Repaired:
    """Repaired with samples of the base that a grader calls correct."""
    from tuning.open_study import open_study

    preflight.check_ports(study.place)
    rows = list(inputs.examples(study, say))
    with open_study(study, base, "synthesize", say) as work:
        return synthesis.repair(
            work.study, build(study.task), rows, work.base, work.sampler, work.progress
        )


def _settled(study: StudyConfig) -> StudyConfig:
    """With the task of its data, no axes, and a way: listed solutions where the task has them."""
    study = inputs.named(study.model_copy(update={"sweep": type(study.sweep)()}))
    if study.dataset.synthesis == "none":
        way = synthesis.ENUMERATOR if build(study.task).enumerates else synthesis.SAMPLES
        data = study.dataset.model_copy(update={"synthesis": way})
        study = study.model_copy(update={"dataset": data})
    if study.data is None:
        check_data(study)
    return study


def _write(study: StudyConfig, rows: list[Example], tally: synthesis.SynthesisReport) -> Path:
    """The repaired data as Parquet with its card, and as JSONL for other tools."""
    out = study.folder / "synthesized"
    out.mkdir(parents=True, exist_ok=True)
    what = Identity("synthesis", {"dataset": study.dataset, "synthesis": study.synthesis})
    more = {"synthesis": {"way": study.dataset.synthesis, **tally.report()}}
    dataset.write(out, rows, what, build(study.task), more=more)
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
