"""A dataset repaired at its decision points: solutions are added where branches are missing.

forkdiv synthesize --config synthesis dataset.synthesis=enumerator
forkdiv synthesize --data FILE base=CHECKPOINT synthesis.budget=2000
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Follower, Progress
from forkdiv.core.records import Example
from forkdiv.core.store import check_writable, write_text
from forkdiv.data import dataset, inputs
from forkdiv.forks import synthesis
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import preflight
from tuning.space import check_data
from tuning.study import folder


def run(study: StudyConfig) -> None:
    from forkdiv.sample.deployment import ServeSampler
    from tuning import session

    study = _settled(study)
    task = build(study.task)
    synthesis.check(task, study.dataset.synthesis)
    base = preflight.check_base(study, task)
    check_writable(study.place.root, study.place.min_free_mib)
    progress = Progress(folder(study) / "progress.jsonl", "synthesize")
    draws = study.dataset.synthesis == synthesis.SAMPLES
    with Follower(progress.path, say):
        rows = list(inputs.examples(study, progress))
        if draws:
            preflight.check_ports(study.place)
        with session.running(study.place) if draws else nullcontext():
            study, base = session.prepared(study, base, progress) if draws else (study, base)
            with session.sampler(study, base) if draws else nullcontext("") as app:
                sampler = ServeSampler(app, study.place.engine) if draws else None
                kept, tally = synthesis.repair(study, task, rows, base, sampler, progress)
    out = _write(study, kept, tally)
    say(tally.sentence())
    say(json.dumps(tally.report(), indent=1))
    say(f"dataset: {out}")


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


def _write(study: StudyConfig, rows: list[Example], tally: synthesis.Tally) -> Path:
    """The repaired data as Parquet with its card, and as JSONL for other tools."""
    out = folder(study) / "synthesized"
    out.mkdir(parents=True, exist_ok=True)
    what = Identity("synthesis", {"dataset": study.dataset, "synthesis": study.synthesis})
    more = {"synthesis": {"way": study.dataset.synthesis, **tally.report()}}
    dataset.write(out, rows, what, study.task, more=more)
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
