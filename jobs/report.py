"""The report of a finished study, written again from its summary.

forkdiv report --config jobs/configs/quickstart.yaml
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forkdiv import cli
from forkdiv.artifacts import check_writable
from forkdiv.config import StudyConfig
from forkdiv.errors import refuse
from forkdiv.report import page
from forkdiv.terminal import say
from tuning.study import SUMMARY, folder


def run(study: StudyConfig) -> None:
    path = folder(study) / SUMMARY
    if not path.is_file():
        raise refuse(
            "there is no finished study of this name",
            path,
            "a study whose sweep has finished",
            "run `forkdiv study` or `forkdiv sweep` first, or set name and place.root",
        )
    check_writable(study.place.root, study.place.min_free_mib)
    done = json.loads(path.read_text())
    if "axes" not in done:
        raise refuse(
            "the study was summarised by an older forkdiv",
            f"{path} of {done.get('created')}",
            "a summary of this version",
            "run `forkdiv study` again",
        )
    say(f"report: {write_report(study, done)}")


def write_report(study: StudyConfig, done: dict[str, Any]) -> Path:
    """The report's page, in the study's folder."""
    return page.write(done, folder(study))


if __name__ == "__main__":
    cli.run_job("report")
