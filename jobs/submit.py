"""Run a study as a job on a Ray cluster, and follow it.

    forkdiv submit quickstart --address http://head:8265 place.root=/shared
    forkdiv submit my.yaml --address http://head:8265 place.root=/shared
    forkdiv submit --address http://head:8265 --follow raysubmit_1a2b3c4d

The current folder is sent, without what .rayignore and .gitignore leave out. The token is that of
RAY_AUTH_TOKEN or ~/.ray/auth_token. The command shows what the job prints, ends with its table, and
has its exit status. Ctrl-C ends the command, not the job.
"""

from __future__ import annotations

import os

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.written import Written
from forkdiv.core.errors import refuse
from forkdiv.terminal import say


def run(
    study: StudyConfig, written: Written, address: str | None = None, follow: str | None = None
) -> int:
    """Returns the exit status of the job."""
    from tuning import submission

    if follow is None and written.config is None:
        raise refuse(
            "no study is named",
            "no STUDY",
            "a config file, or a name that `forkdiv configs` lists",
            "add it: forkdiv submit quickstart --address …",
        )
    jobs = submission.connect(address, os.environ.get(submission.ADDRESS))
    job = follow or submission.start(jobs, "study", study, written)
    say(f"job {job} on {jobs.address}")
    return jobs.follow(job, say)


if __name__ == "__main__":
    cli.run_job("submit")
