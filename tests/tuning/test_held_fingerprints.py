"""The named studies' stages keep the fingerprints of version 0.1, so that finished work is found.

files/fingerprints-0.1.json was written by version 0.1.0, its libraries' versions taken as "0". An
entry changes only together with a raised `STAGE_VERSIONS`, and CHANGELOG.md says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkdiv.core import fingerprint
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.coverage import exact, exact_forks, summary
from forkdiv.data import dataset
from forkdiv.forks import synthesis
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.thinking import opening_tag
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score import verdicts
from forkdiv.train import sft_run
from tests.stack import BASE, ROOT
from tuning.models import tuned_checkpoint
from tuning.space import Point, at, points

HELD = json.loads((Path(__file__).parent / "files/fingerprints-0.1.json").read_text())


@pytest.mark.parametrize("name", HELD)
def test_named_studies_keep_the_fingerprints_of_version_0_1(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "library_version", lambda library: "0")
    study = load(ROOT / "jobs" / "configs" / f"{name}.yaml")
    base, store = open_checkpoint(BASE), Store(tmp_path)
    found = {
        f"{point.name} {stage}": identity.fingerprint
        for point in points(study)
        for stage, identity in stages(at(study, point), point, base, store)
    }
    found["study"] = summary.identity(study, base).fingerprint
    assert found == HELD[name]


def stages(
    study: StudyConfig, point: Point, base: Checkpoint, store: Store
) -> Iterator[tuple[str, Identity]]:
    evaluation = Evaluation.of(study)
    made = dataset.sft_identity(evaluation.task, study.dataset)
    yield "dataset", made
    if study.dataset.synthesis != "none":
        made = synthesis.identity(
            study, made.fingerprint, base.fingerprint, evaluation.thinking(base)
        )
        yield "synthesis", made
    opening = opening_tag(base.token_files, study.prompt)
    train = (made.fingerprint, base.fingerprint, study.sft, study.prompt, opening)
    yield "train", sft_run.identity(*train)
    checkpoint = tuned_checkpoint(study, base, store) if point.tuned else base
    samples = sample_sets.identity(evaluation, checkpoint)
    yield "samples", samples
    n, grading = study.eval.samples, evaluation.grading(checkpoint)
    yield "verdicts", verdicts.identity(samples, len(evaluation.problems), n, grading=grading)
    yield "exact", exact.identity(evaluation, checkpoint)
    yield "forks", exact_forks.identity(evaluation, checkpoint)
