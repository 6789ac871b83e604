"""Jobs on a Ray cluster through its dashboard: submitted, followed to their end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from forkdiv.core.errors import InvalidResult, UserError, refuse, shortened
from tuning.gcs import token, token_refused

DEFAULT_PORT = 8265
CONNECT_S = 10.0
POLL_S = 1.0
# loggers of Ray that list every file that is not sent, each with a level of its own
TALKATIVE = (
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
PATIENCE_S = 15.0  # until a line says that a job has not started
SILENT_S = 120.0  # without an answer, until the head counts as lost
DRIVER_CPUS = 0.1  # the driver of a job mostly waits: a whole CPU would be missing for training


@dataclass(frozen=True)
class Jobs:
    """The jobs of the cluster whose dashboard is at `address`."""

    address: str
    client: Any

    @classmethod
    def at(cls, address: str) -> Jobs:
        """Connects to the cluster.

        Raises UserError if nobody answers, the token is another one, or Ray's versions differ.
        """
        url = _url(address)
        _check_answers(url)
        sent = token()
        headers = {"Authorization": f"Bearer {sent}"} if sent else {}
        there, here = _version(url, headers), metadata.version("ray")
        if there != here:
            raise refuse(
                f"the version of the Ray cluster at {url} differs from this command's",
                f"Ray {there} there, Ray {here} here",
                "the same version of Ray on all machines",
                "run this command in the cluster's environment, or install the same version",
            )
        from ray.job_submission import JobSubmissionClient  # takes seconds

        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        client = JobSubmissionClient(url, headers=headers)
        return cls(url, client)

    def submit(self, command: str, folder: Path, variables: Mapping[str, str]) -> str:
        """Starts `command` as a job in a copy of `folder`; returns the job's id."""
        try:
            job: str = self.client.submit_job(
                entrypoint=command,
                runtime_env={"working_dir": str(folder), "env_vars": dict(variables)},
                entrypoint_num_cpus=DRIVER_CPUS,
            )
        except (RuntimeError, ValueError) as error:
            raise refuse(
                "the cluster does not take the job",
                shortened(" ".join(str(error).split()), 500),
                "a folder of at most 500 MiB without what .rayignore and .gitignore leave out",
                "correct the cause, or run the command in another folder",
            ) from error
        return job

    def follow(self, job: str, show: Callable[[str], None]) -> int:
        """Shows what the job prints until it ends; returns its exit status. After Ctrl-C it says
        how to go on with the job.

        Raises InvalidResult if the cluster is lost meanwhile.
        """
        try:
            self._wait_for_start(job, show)
            asyncio.run(self._tail(job, show))
            return self._status(job, show)
        except KeyboardInterrupt:
            for line in self.hints(job):
                show(line)
            raise

    def hints(self, job: str) -> list[str]:
        """Returns lines that say how to go on with a job that is not followed any more."""
        return [
            f"the job {job} goes on; follow it again: forkdiv submit --address {self.address} "
            f"--follow {job}",
            f"stop it: RAY_AUTH_MODE=token ray job stop --address {self.address} {job}",
        ]

    def _wait_for_start(self, job: str, show: Callable[[str], None]) -> None:
        shown, started = "", time.monotonic()
        while (info := self._info(job)).status == "PENDING":
            is_long = time.monotonic() - started > PATIENCE_S
            if is_long and info.message and info.message != shown:
                shown = info.message
                show(f"the job waits: {' '.join(shown.split())}")
            time.sleep(POLL_S)

    async def _tail(self, job: str, show: Callable[[str], None]) -> None:
        """Shows the log as it grows. A connection that breaks is opened again; the head then sends
        the log from its beginning."""
        from aiohttp import ClientError

        seen, rest, is_whole = 0, "", False
        while not is_whole:
            position = 0
            is_over = self._info(job).status.is_terminal()
            try:
                async for text in self.client.tail_job_logs(job):
                    new = text[max(seen - position, 0) :]
                    position += len(text)
                    seen = max(seen, position)
                    *lines, rest = (rest + new).split("\n")
                    for line in lines:
                        show(line)
                is_whole = is_over or self._info(job).status.is_terminal()
            except (RuntimeError, OSError, ClientError):
                is_whole = is_over  # the log is lost with the host of the job
            if not is_whole:
                await asyncio.sleep(POLL_S)
        if rest:
            show(rest)

    def _info(self, job: str) -> Any:
        deadline = time.monotonic() + SILENT_S
        while True:
            try:
                return self.client.get_job_info(job)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise InvalidResult(
                        f"the cluster at {self.address} has not answered for {SILENT_S:g} s; if "
                        "its head is lost, the job is lost too: start the cluster and submit the "
                        "study again, finished work is kept"
                    ) from error
            except RuntimeError as error:
                if "404" in str(error) or "does not exist" in str(error):
                    raise refuse(
                        "the cluster does not know this job",
                        job,
                        f"a job that `ray job list --address {self.address}` shows",
                        "correct the id, or submit the study again",
                    ) from error
                raise
            time.sleep(POLL_S)

    def _status(self, job: str, show: Callable[[str], None]) -> int:
        info = self._info(job)
        if info.status == "SUCCEEDED":
            return 0
        if info.status == "STOPPED":
            show(f"forkdiv: the job {job} was stopped; submit it again to continue")
            return 1
        if not info.driver_exit_code:  # its process ended by a signal, or with its host
            reason = shortened(" ".join(str(info.message).split()), 500)
            show(f"forkdiv: the job {job} failed: {reason}; submit it again to continue")
            return 1
        return int(info.driver_exit_code) if info.driver_exit_code > 0 else 1


def _url(address: str) -> str:
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise refuse(
            "--address is not the address of a dashboard",
            address,
            f"http://HOST:PORT, such as http://127.0.0.1:{DEFAULT_PORT}",
            "correct --address",
        )
    return url.rstrip("/")


def _check_answers(url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as error:
        reason = (
            f"no answer within {CONNECT_S:g} s"
            if isinstance(error, TimeoutError)
            else error.strerror or str(error)
        )
        raise refuse(
            "nobody answers at --address",
            f"{url} ({reason})",
            f"the dashboard of a running Ray cluster, port {DEFAULT_PORT} unless it was set",
            "start the cluster, open the tunnel to its head (`ray dashboard`, `kubectl "
            "port-forward`), or correct --address",
        ) from error


def _version(url: str, headers: Mapping[str, str]) -> str:
    """Returns the version of Ray that the dashboard at `url` names."""
    request = urllib.request.Request(f"{url}/api/version", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_S) as reply:
            return str(json.load(reply)["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise token_refused(url, bool(headers)) from error
        raise _not_ray(url, error) from error
    except (OSError, ValueError, KeyError, TypeError, HTTPException) as error:
        raise _not_ray(url, error) from error


def _not_ray(url: str, error: Exception) -> UserError:
    return refuse(
        "what answers at --address is not the dashboard of a Ray cluster",
        f"{url} ({shortened(' '.join(str(error).split()), 300)})",
        f"the address that `ray start --head` printed, port {DEFAULT_PORT} unless it was set",
        "correct --address",
    )
