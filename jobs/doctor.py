"""Check the hosts of a Ray cluster: versions, storage, token, clocks, GPUs, ports.

    forkdiv doctor --address http://head:8265 place.root=/shared
    forkdiv doctor place.ray_address=head:6379 place.root=/shared

One line for each check, with what to do if something is wrong; the exit status is then 1. With
--address the checks run as a job on the cluster, with place.ray_address in this process.
"""

from __future__ import annotations

import os

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.written import Written
from forkdiv.core.errors import refuse
from forkdiv.terminal import say
from tuning.check_ray import check_ray, ray_address


def run(study: StudyConfig, written: Written, address: str | None = None) -> int:
    """Returns 1 if something is wrong, otherwise 0."""
    from tuning import submission

    if address is None and ray_address(study.place):
        return _examined(study)
    if address is None and submission.ADDRESS not in os.environ:
        raise refuse(
            "no cluster is named",
            "neither --address nor place.ray_address",
            "--address http://HOST:8265, or place.ray_address=HOST:6379",
            "add one of them",
        )
    jobs = submission.connect(address, os.environ.get(submission.ADDRESS))
    say(f"ok      address: Ray's dashboard at {jobs.address} answers and takes the token")
    job = submission.start(jobs, "doctor", study, written)
    return jobs.follow(job, say)


def _examined(study: StudyConfig) -> int:
    check_ray(study.place)
    from tuning import session
    from tuning.doctor import examine

    with session.joined(study.place):
        return 0 if examine(study.place, lambda finding: say(str(finding))) else 1


if __name__ == "__main__":
    cli.run_job("doctor")
