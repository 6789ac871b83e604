"""Serve checkpoints on OpenAI-compatible routes, from one engine that stays loaded.

    forkdiv serve --checkpoints graph-d3-l3
    forkdiv serve --checkpoints BASE RUN place.http.port=8001
    forkdiv serve --checkpoints org/name org/name@revision

The model name of a checkpoint is its folder name (`base`); for a checkpoint in a run folder it is
`RUN/epoch-0003`, and for one on the Hugging Face Hub the name as it was written. Any OpenAI client
can sample it by this name at http://127.0.0.1:8000/v1. If the server accepts connections from other
machines (place.http.host), requests need an API key: the value of FORKDIV_API_KEY, or a key that is
generated and printed. Ctrl-C ends the server.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv import cli
from forkdiv.core.config.load import load
from forkdiv.core.config.shipped import checkpoint_path
from forkdiv.core.config.study import HttpConfig, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.models.checkpoint import (
    Checkpoint,
    check_tensors,
    open_checkpoint,
    share_engine,
)
from forkdiv.models.saved import saved_checkpoints
from forkdiv.terminal import say
from tuning import adapters, by_name, preflight, prompt_notes
from tuning.check_ray import check_ray
from tuning.resources import Work, placed

if TYPE_CHECKING:
    from ray.serve import Application

KEY = "FORKDIV_API_KEY"


def run(study: StudyConfig, checkpoints: Sequence[Path] = ()) -> None:
    served = named_checkpoints(study, checkpoints, say)
    http = study.place.http
    key = api_key(http)
    preflight.check_device(study.place)
    preflight.check_ports(study.place)
    check_ray(study.place)
    preflight.check_port(http.host, http.port, "place.http.port")
    for note in prompt_notes.notes(study, [checkpoint.path for checkpoint in served.values()]):
        say(f"note: {note}")
    # imported after the checks, because Ray's imports take seconds
    from ray import serve as ray_serve

    from forkdiv.sample import deployment
    from forkdiv.sample.http import deploy
    from tuning import session

    first = next(iter(served.values()))
    with session.running(study.place, Work(trains=False), say) as place:
        study = study.model_copy(update={"place": place})
        spec = session.serving_spec(study, first)
        shared = {
            name: session.share(study.place, checkpoint) for name, checkpoint in served.items()
        }
        say("starting the engine (about half a minute on a CPU)")
        app = deploy(spec, shared, http.host, http.port, key)
        try:
            deployment.wait_until_ready(app, study.place.engine.start_timeout_s)
            _announce(served, http, key)
            _until_stopped()
        finally:
            ray_serve.delete(app)


def application(arguments: dict[str, Any]) -> Application:
    """Builds the application for a config file of Ray Serve, which calls it on the cluster with
    `import_path: jobs.serve:application`. KubeRay deploys it so; see cluster/serve/.

    `arguments` has `checkpoints`, a list of folders or names as after --checkpoints, and
    `settings`, a list of key=value. Requests need the API key in FORKDIV_API_KEY.
    """
    unknown = sorted(arguments.keys() - {"checkpoints", "settings"})
    if unknown:
        raise refuse(
            "jobs.serve:application has an unknown argument",
            ", ".join(unknown),
            "checkpoints, settings",
            "correct args of the application in serveConfigV2",
        )
    study = load(None, arguments.get("settings", ()))
    place, _ = placed(study.place, Work(trains=False), gpus=0)
    study = study.model_copy(update={"place": place})
    key = os.environ.get(KEY)
    if not key:
        raise refuse(
            f"{KEY} is not set where Ray's workers start, and the server accepts connections from "
            "other machines",
            "no API key",
            "a long random text",
            f"set {KEY} in the environment of all Ray nodes",
        )
    named = (Path(str(checkpoint_path(path))) for path in arguments.get("checkpoints", ()))
    served = named_checkpoints(study, tuple(named), say)
    from forkdiv.sample.http import application as build
    from tuning import session

    spec = session.serving_spec(study, next(iter(served.values())))
    shared = {name: session.share(study.place, checkpoint) for name, checkpoint in served.items()}
    return build(spec, shared, key)


def named_checkpoints(
    study: StudyConfig, paths: Sequence[Path], show: Callable[[str], None]
) -> dict[str, Checkpoint]:
    """Returns the checkpoints by their model names; one on the hub is downloaded, and `show` gets
    its commit; an adapter is merged into its base in the store. Raises UserError if there are
    none, if two have the same name, and if one engine cannot serve them together."""
    served: dict[str, Checkpoint] = {}
    downloads = by_name.checkpoints("--checkpoints", paths, show)
    for named in paths:
        download = downloads.get(named)
        path = download.path if download else named
        _, folders = saved_checkpoints(path)
        for folder in folders.values():
            name = download.source.name if download else path.resolve().name
            name = name if folder == path else f"{name}/{folder.name}"
            if name in served:
                raise refuse(
                    "two checkpoints have the same name",
                    f"{name}: {served[name].path} and {folder.resolve()}",
                    "different folder names",
                    "rename one of the folders, or serve them in two processes",
                )
            served[name] = open_checkpoint(adapters.merged(study, folder, show))
    if not served:
        raise refuse(
            "serve needs a checkpoint",
            "no --checkpoints",
            "Hugging Face checkpoint folders, or a run's folder of checkpoints",
            "add --checkpoints DIR …",
        )
    first, *others = (checkpoint.path for checkpoint in served.values())
    for other in others:
        if not share_engine(other, first):
            raise refuse(
                "one engine cannot serve checkpoints of different architectures",
                f"{other} and {first}",
                "equal config.json files, except for the ids of special tokens",
                "serve them in two processes, each with its own place.http.port",
            )
        check_tensors(other, first)
    return served


def api_key(http: HttpConfig) -> str | None:
    """Returns the API key that requests need; None if only this machine can connect."""
    if key := os.environ.get(KEY):
        return key
    address = _address(http.host)
    is_local = http.host == "localhost" or (address is not None and address.is_loopback)
    return None if is_local else secrets.token_urlsafe(32)


def base_url(http: HttpConfig) -> str:
    """Returns the base URL for clients; with this machine's name if the server listens on all
    interfaces."""
    address = _address(http.host)
    host = socket.gethostname() if address and address.is_unspecified else http.host
    return f"http://[{host}]:{http.port}/v1" if ":" in host else f"http://{host}:{http.port}/v1"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:  # a host name
        return None


def _announce(served: dict[str, Checkpoint], http: HttpConfig, key: str | None) -> None:
    url = base_url(http)
    say(f"serving: {', '.join(served)}")
    say(f"  URL: {url} (base_url of an OpenAI client)")
    say(f"  API key: {key}" if key else "  API key: none; only this machine can connect")
    say("  press Ctrl-C to stop")


def _until_stopped() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(0.5):  # with a timeout, so that signal handlers can run
        pass
    say("stopping")


if __name__ == "__main__":
    cli.run_job("serve")
