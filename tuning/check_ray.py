"""Checks of Ray before it is started or joined: an address that answers, a token and versions that
the cluster accepts, and short socket paths."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import UserError, refuse

SECONDS = 5.0  # until an address counts as silent
MAX_SOCKET_PATH = 107  # bytes of the path of a Unix socket on Linux
# the longest path that Ray puts below its temporary folder; the process id has up to 7 digits
SOCKET = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
# HTTP/2 begins with this text and a frame of settings; a gRPC server answers with its settings
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_FRAME = 4
WORKING_DIRS = "working_dir_files"  # the folder of the working directories of jobs
LATEST = Path("ray/ray_current_cluster")  # written by `ray start`


def ray_address(place: PlaceConfig) -> str | None:
    """Returns the address of the Ray cluster to join; None if a local Ray is started. Ray sets
    RAY_ADDRESS in submitted jobs."""
    return place.ray_address or os.environ.get("RAY_ADDRESS") or None


def check_ray(place: PlaceConfig) -> None:
    """Raises UserError if the Ray cluster to join does not answer, requires another token or has
    other versions, or if the temporary folder is unusable for a Ray that is started here."""
    address = ray_address(place)
    if address is None:
        _check_temporary_folder()
        return
    _check_root(place)
    setting = "place.ray_address" if place.ray_address else "RAY_ADDRESS"
    target = _latest(setting, address) if address == "auto" else address
    host, port = _host_and_port(setting, target)
    try:
        reply = _reply(host, port)
    except TimeoutError as error:
        raise _refused(setting, address, f"no answer within {SECONDS:g} s") from error
    except OSError as error:
        raise _refused(setting, address, error.strerror or str(error)) from error
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return  # an encrypted server does not answer in plain text
    if len(reply) < 4 or reply[3] != SETTINGS_FRAME:
        raise _refused(setting, address, "what answers is not Ray")
    if not address.startswith("ray://"):  # Ray Client checks versions itself
        from tuning.gcs import check_joinable  # gRPC: a third of a second

        check_joinable(f"{host}:{port}", f"{setting}={address}", SECONDS)


def _check_root(place: PlaceConfig) -> None:
    """Raises UserError if place.root is in the working directory of a submitted job, a copy that
    Ray removes after the job."""
    folder = Path.cwd()
    if WORKING_DIRS in folder.parts and place.root.is_relative_to(folder):
        raise refuse(
            "place.root is in the working directory of the job, which Ray removes",
            place.root,
            "a folder that all hosts of the cluster share, by its absolute path",
            "set place.root, such as place.root=/shared/runs",
        )


def _refused(setting: str, address: str, reason: str) -> UserError:
    return refuse(
        f"there is no Ray cluster at {setting}",
        f"{address} ({reason})",
        "the address of a running cluster, such as 10.0.0.5:6379, ray://10.0.0.5:10001 or auto",
        f"start the cluster, correct {setting}, or remove it to start a Ray for this command",
    )


def _host_and_port(setting: str, address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16 or "/" in host:
        raise _refused(setting, address, "not HOST:PORT")
    return host.strip("[]"), int(port)


def _latest(setting: str, address: str) -> str:
    path = _temporary_folder() / LATEST
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _refused(setting, address, "no `ray start` has run on this machine") from error


def _reply(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=SECONDS) as connection:
        connection.sendall(PREFACE)
        return connection.recv(9)


def _temporary_folder() -> Path:
    """Returns the folder in which Ray creates its own: as Ray itself chooses it."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")


def _check_temporary_folder() -> None:
    folder = _temporary_folder()
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise refuse(
            f"Ray cannot write to the temporary folder ({variable})",
            folder,
            "an existing folder you have write permission for",
            f"set {variable} to another folder, or unset it",
        )
    length = len(os.fsencode(folder / SOCKET))
    if length > MAX_SOCKET_PATH:
        most = MAX_SOCKET_PATH - (length - len(os.fsencode(folder)))
        raise refuse(
            f"the path of the temporary folder ({variable}) is too long for Ray's sockets",
            f"{folder} ({len(os.fsencode(folder))} bytes)",
            f"at most {most} bytes",
            "set RAY_TMPDIR to a short folder, such as /tmp",
        )
