"""What s3fs and botocore raise, as errors that say what to do. They never repeat a credential."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from forkdiv.core.errors import InvalidResult, UserError, refuse, shortened

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role"
DENIED = (401, 403)  # the text of these answers may repeat a key: only the code is shown
TRANSIENT = ("SlowDown", "RequestTimeout", "InternalError")
_USER_INFO = re.compile(r"//[^/@\s]*@")  # of an endpoint: it could have a password


class StorageFailed(InvalidResult):
    """The storage did not answer, or failed, while work was running; what is published is kept."""


class Outage(Exception):
    """The storage did not answer, or answered with an error of its own; it may do so later."""


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns the errors of s3fs and botocore into FileNotFoundError (no such object),
    FileExistsError (a condition did not hold), UserError, StorageFailed and Outage."""
    from aiohttp import ClientError
    from botocore import exceptions as boto

    try:
        yield
    except (UserError, InvalidResult, asyncio.CancelledError):
        raise
    except Exception as error:
        answer = getattr(error.__cause__ or error, "response", None)
        if isinstance(answer, dict):
            raise _of_answer(url, answer, error) from error
        if isinstance(
            error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound
        ):
            raise _without_credentials(url, type(error).__name__) from error
        if isinstance(error, boto.ParamValidationError | boto.NoRegionError):
            raise _wrong(url, str(error)) from error
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of a local file
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # the local disk is full
        if not isinstance(error, (boto.BotoCoreError, ClientError, OSError, asyncio.TimeoutError)):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise Outage(shortened(_USER_INFO.sub("//", text), 200)) from error


def _of_answer(url: str, answer: dict[str, Any], error: Exception) -> Exception:
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket" or (code == "404" and "HeadBucket" in str(error.__cause__)):
        return _wrong(url, "there is no such bucket")
    if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return FileExistsError(code)
    if status == 404:
        return FileNotFoundError(code)
    if status in DENIED:
        return _without_credentials(url, code)
    if status >= 500 or status == 429 or code in TRANSIENT:
        return Outage(f"{status} {code}")
    text = shortened(" ".join(str(error).split()), 200)
    return _wrong(url, f"{status} {code}: {text}")


def _wrong(url: str, problem: str) -> UserError:
    return refuse(
        "the object storage of place.store cannot be used",
        f"{url} ({problem})",
        "s3://BUCKET/PREFIX with a bucket that exists",
        "create the bucket, or correct place.store, AWS_REGION or AWS_ENDPOINT_URL",
    )


def _without_credentials(url: str, problem: str) -> UserError:
    return refuse(
        "the object storage of place.store refuses access",
        f"{url} ({problem})",
        f"credentials that may read, write, list and delete there: {CREDENTIALS}",
        "correct the environment of this process (on a cluster, that of every node)",
    )
