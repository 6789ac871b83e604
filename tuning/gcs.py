"""What a Ray cluster's head answers before it is joined: whether it accepts the token, and its
versions. Joining itself would take 20 s and as many lines of log to find that out."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import grpc

from forkdiv.core.errors import UserError, refuse

NAMESPACE, KEY = b"cluster", b"CLUSTER_METADATA"  # where the head of a cluster notes its versions
TOKEN_FILE = Path(".ray/auth_token")  # in the home directory


@dataclass(frozen=True)
class Versions:
    """The versions that all processes of a cluster must share; Ray refuses others."""

    ray: str
    python: str

    @classmethod
    def here(cls) -> Versions:
        """Returns the versions of this process."""
        return cls(metadata.version("ray"), platform.python_version())

    def __str__(self) -> str:
        return f"Ray {self.ray} with Python {self.python}"


def token() -> str | None:
    """Returns the token that Ray would send, from RAY_AUTH_TOKEN, the file that
    RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token; None if there is none."""
    if text := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return text
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / TOKEN_FILE
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if named:
            raise refuse(
                "the file of Ray's token cannot be read",
                f"RAY_AUTH_TOKEN_PATH={named} ({error.strerror})",
                "a file that contains the cluster's token",
                "correct RAY_AUTH_TOKEN_PATH",
            ) from error
        return None


def token_refused(where: str, has_token: bool) -> UserError:
    """Returns the refusal of a cluster that requires another token than the one that was sent."""
    return refuse(
        f"the Ray cluster at {where} requires its token",
        "another token (from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
        if has_token
        else "no token",
        "the token that the cluster was started with",
        "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token, or write it to "
        "~/.ray/auth_token",
    )


def check_joinable(target: str, where: str, timeout_s: float) -> None:
    """Raises UserError if the cluster whose head listens on `target` (HOST:PORT) does not accept
    this process: its token is another one, or its versions differ. `where` is the setting and the
    address, for messages."""
    enabled = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    sent = token() if enabled else None
    try:
        versions = _versions(target, sent, timeout_s)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise token_refused(where, sent is not None) from error
        raise refuse(
            f"what answers at {where} is not the head of a Ray cluster",
            f"{error.code().name}: {error.details()}",
            "the address that `ray start --head` printed, such as 10.0.0.5:6379",
            "correct the address",
        ) from error
    here = Versions.here()
    if versions is not None and versions != here:
        raise refuse(
            f"the versions of the Ray cluster at {where} differ from those of this command",
            f"{versions} there, {here} here",
            "the same versions of Ray and Python on all machines",
            "run this command in the cluster's environment, or install the same versions",
        )


def requires_token(target: str, timeout_s: float) -> bool:
    """Returns whether the head on `target` (HOST:PORT) refuses a process without a token."""
    try:
        _versions(target, None, timeout_s)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return True
        raise
    return False


def _versions(target: str, sent: str | None, timeout_s: float) -> Versions | None:
    """Returns the cluster's versions; None if its head has not noted them yet."""
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc  # takes a second

    request = gcs_service_pb2.InternalKVGetRequest(namespace=NAMESPACE, key=KEY)
    headers = [("authorization", f"Bearer {sent}")] if sent else []
    with grpc.insecure_channel(target) as channel:
        kept = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
        reply = kept.InternalKVGet(request, timeout=timeout_s, metadata=headers)
    if not reply.value:
        return None
    noted = json.loads(reply.value)
    return Versions(noted["ray_version"], noted["python_version"])
