"""Objects of an S3-compatible bucket, through s3fs: read, listed, transferred, and written on a
condition.

Credentials, region and endpoint come from where every AWS client looks (AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, the role of the machine); they are
never part of a setting, a record or a message.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from forkdiv.core.errors import refuse
from forkdiv.core.remote.storage_errors import Outage, StorageFailed, explained

Result = TypeVar("Result")
CONNECT_S, READ_S = 5, 60  # until an answer begins and goes on
REQUEST_S, TRANSFER_S = 90.0, 6 * 3600.0  # of a request, and of a whole file
WORK_PATIENCE_S, CHECK_PATIENCE_S = 180.0, 5.0  # how long an outage may last
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
READ_BYTES = 2**20
AT_ONCE = 32  # files that are transferred at the same time
DELETED_AT_ONCE = 1000  # S3's limit


@dataclass(frozen=True)
class Stored:
    """The content of an object, and the tag of this version of it."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Listed:
    """An object in a listing; `modified` is by the storage's clock, in seconds since the epoch."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True)
class Objects:
    """The objects below `url` (s3://BUCKET or s3://BUCKET/PREFIX); keys are relative to it.

    An operation is repeated while the storage does not answer, for up to `patience_s`; then it
    raises StorageFailed. Operations raise UserError where credentials are missing or refused, and
    for a bucket that does not exist.
    """

    url: str
    patience_s: float = WORK_PATIENCE_S

    @property
    def bucket(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[0]

    def key(self, key: str) -> str:
        """Returns the whole key of an object in the bucket."""
        prefix = self.url.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{prefix}/{key}" if prefix else key

    def read(self, key: str) -> Stored | None:
        """Returns an object, or None if it does not exist."""

        async def get(fs: Any) -> Stored:
            answer = await fs._call_s3("get_object", Bucket=self.bucket, Key=self.key(key))
            async with answer["Body"] as body:
                return Stored(await body.read(), answer["ETag"])

        try:
            stored: Stored = self._run(get)
            return stored
        except FileNotFoundError:
            return None

    def create(self, key: str, data: bytes) -> str | None:
        """Writes an object that must not exist yet; returns its tag, or None if it exists with
        another content: `data` must differ between writers."""
        return self._put_if(key, data, {"IfNoneMatch": "*"})

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Writes an object whose version must be `etag`; returns its new tag, or None if it has
        another version or does not exist."""
        return self._put_if(key, data, {"IfMatch": etag})

    def _put_if(self, key: str, data: bytes, condition: dict[str, str]) -> str | None:
        try:
            answer = self._run(lambda fs: self._put(fs, key, data, condition))
        except (FileExistsError, FileNotFoundError):
            # if an answer was lost and the request repeated, it was our own write that came first
            now = self.read(key)
            return now.etag if now is not None and now.data == data else None
        return str(answer["ETag"])

    def put(self, key: str, data: bytes) -> None:
        """Writes an object on no condition."""
        self._run(lambda fs: self._put(fs, key, data, {}))

    async def _put(self, fs: Any, key: str, data: bytes, condition: dict[str, str]) -> Any:
        return await fs._call_s3(
            "put_object", Bucket=self.bucket, Key=self.key(key), Body=data, **condition
        )

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes objects; those that do not exist are passed over."""
        left = list(keys)
        while left:
            named = [{"Key": self.key(key)} for key in left[:DELETED_AT_ONCE]]
            left = left[DELETED_AT_ONCE:]

            async def drop(fs: Any, named: list[dict[str, str]] = named) -> Any:
                delete = {"Objects": named, "Quiet": True}
                return await fs._call_s3("delete_objects", Bucket=self.bucket, Delete=delete)

            if problems := self._run(drop).get("Errors"):
                raise StorageFailed(
                    f"{self.url}: {problems[0].get('Key')} could not be deleted "
                    f"({problems[0].get('Code')}); allow s3:DeleteObject"
                )

    def listed(self, prefix: str = "") -> list[Listed]:
        """Returns all objects whose key starts with `prefix`, in the order of their keys."""
        whole, start = self.key(prefix), len(self.key(""))

        async def pages(fs: Any) -> list[Listed]:
            listed: list[Listed] = []
            more: dict[str, str] = {}
            while True:
                page = await fs._call_s3(
                    "list_objects_v2", Bucket=self.bucket, Prefix=whole, **more
                )
                for one in page.get("Contents", ()):
                    modified = _seconds(one["LastModified"])
                    listed.append(Listed(one["Key"][start:], int(one["Size"]), modified))
                if not page.get("IsTruncated"):
                    return listed
                more = {"ContinuationToken": page["NextContinuationToken"]}

        result: list[Listed] = self._run(pages, most_s=TRANSFER_S)
        return result

    def now(self) -> float:
        """Returns the time by the storage's clock, in seconds since the epoch."""

        async def head(fs: Any) -> Any:
            return await fs._call_s3("head_bucket", Bucket=self.bucket)

        headers = self._run(head)["ResponseMetadata"]["HTTPHeaders"]
        return parsedate_to_datetime(headers["date"]).timestamp()

    def upload(self, files: Mapping[Path, str]) -> None:
        """Uploads local files to keys, several at a time; large ones in parts."""

        async def put(fs: Any, file: Path, key: str) -> None:
            await fs._put_file(str(file), f"{self.bucket}/{self.key(key)}")

        self._transfer(put, files)

    def download(self, keys: Mapping[Path, str]) -> None:
        """Downloads keys to local files, several at a time.

        Raises StorageFailed for an object that is missing, and OSError if the disk is full.
        """

        async def get(fs: Any, file: Path, key: str) -> None:
            try:
                await fs._get_file(f"{self.bucket}/{self.key(key)}", str(file))
            except FileNotFoundError as error:
                if error.filename is not None:
                    raise  # of the local folder
                raise StorageFailed(
                    f"{self.url}/{key} is missing, although the result that it belongs to is "
                    "published; run `forkdiv store verify`"
                ) from error

        self._transfer(get, keys)

    def _transfer(self, one: Callable[[Any, Path, str], Any], files: Mapping[Path, str]) -> None:
        async def all_of(fs: Any) -> None:
            gate = asyncio.Semaphore(AT_ONCE)

            async def guarded(file: Path, key: str) -> None:
                async with gate:
                    await self._patiently(lambda: one(fs, file, key), TRANSFER_S)

            tasks = [asyncio.ensure_future(guarded(file, key)) for file, key in files.items()]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

        if files:
            self._run(all_of, patient=False)

    def digest(self, key: str) -> str | None:
        """Returns the SHA-256 of an object's content, read without storing it; None if there is no
        such object."""

        async def read(fs: Any) -> str:
            answer = await fs._call_s3("get_object", Bucket=self.bucket, Key=self.key(key))
            digest = hashlib.sha256()
            async with answer["Body"] as body:
                while block := await body.read(READ_BYTES):
                    digest.update(block)
            return digest.hexdigest()

        try:
            result: str = self._run(read, most_s=TRANSFER_S)
            return result
        except FileNotFoundError:
            return None

    def unfinished_uploads(self) -> list[tuple[str, str, float]]:
        """Returns key, id and start of the uploads in parts that were never completed."""

        async def ask(fs: Any) -> list[tuple[str, str, float]]:
            answer = await fs._call_s3(
                "list_multipart_uploads", Bucket=self.bucket, Prefix=self.key("")
            )
            start = len(self.key(""))
            return [
                (one["Key"][start:], one["UploadId"], _seconds(one["Initiated"]))
                for one in answer.get("Uploads", ())
            ]

        result: list[tuple[str, str, float]] = self._run(ask)
        return result

    def abort_upload(self, key: str, upload: str) -> None:
        """Removes the parts of an upload that was never completed."""

        async def abort(fs: Any) -> None:
            await fs._call_s3(
                "abort_multipart_upload", Bucket=self.bucket, Key=self.key(key), UploadId=upload
            )

        self._run(abort)

    def check(self) -> None:
        """Checks what a store needs of the storage, before work: raises UserError if it cannot be
        reached, if credentials are missing or refused, if the bucket does not exist, or if it
        ignores the conditions of conditional writes."""
        quick = Objects(self.url, CHECK_PATIENCE_S)
        try:
            quick.now()
            quick._check_conditions()
        except StorageFailed as error:
            raise refuse(
                "the object storage of place.store cannot be used",
                str(error).partition("; ")[0],
                "S3-compatible storage that answers from this machine",
                "check the network and AWS_ENDPOINT_URL, or remove place.store",
            ) from error

    def _check_conditions(self) -> None:
        """Writes a probe as leases and records are written: twice on the condition that it does not
        exist, and once for a version that it does not have."""
        key = f"leases/probe-{uuid.uuid4().hex}"
        try:
            first = self.create(key, b"first")
            again = self.create(key, b"again")
            wrong = self.replace(key, b"wrong", '"00000000000000000000000000000000"')
            right = self.replace(key, b"right", first) if first else None
            kept = self.read(key)
        finally:
            self.delete([key])
        ignored = "If-None-Match" if again else "If-Match" if wrong else None
        if ignored or not (first and right) or kept is None or kept.data != b"right":
            raise refuse(
                "the object storage of place.store has no conditional writes, without which two "
                "processes would write the same result",
                f"{self.url}, which ignores {ignored}" if ignored else f"{self.url}: {kept}",
                "storage that answers 412 to If-None-Match: * and If-Match where they do not hold "
                "(Amazon S3, Cloudflare R2, MinIO, Ceph, SeaweedFS in current versions)",
                "use a newer version of the storage, or remove place.store",
            )

    def _run(
        self, call: Callable[[Any], Any], patient: bool = True, most_s: float = REQUEST_S
    ) -> Any:
        from fsspec.asyn import sync

        fs = filesystem(os.getpid())

        async def whole() -> Any:
            return await (self._patiently(lambda: call(fs), most_s) if patient else call(fs))

        return sync(fs.loop, whole)

    async def _patiently(self, call: Callable[[], Any], most_s: float = REQUEST_S) -> Any:
        """Awaits the call, for up to `most_s`, again and again while the storage does not answer.
        aiohttp itself waits without end for a server's `100 Continue`."""
        deadline, wait = time.monotonic() + self.patience_s, FIRST_WAIT_S
        while True:
            try:
                with explained(self.url):
                    return await asyncio.wait_for(call(), most_s)
            except Outage as error:
                if time.monotonic() + wait > deadline:
                    raise StorageFailed(
                        f"{self.url} does not answer ({error}); results that are published are "
                        "kept: run the same command again"
                    ) from error.__cause__
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)


@lru_cache(maxsize=1)
def filesystem(process: int) -> Any:
    """Returns the client of a process: those of a parent process do not work after a fork."""
    try:
        import s3fs
    except ModuleNotFoundError as error:
        raise refuse(
            "place.store needs a package that is not installed",
            f"no {error.name}",
            "the packages of the extra s3",
            'run `pip install --no-deps -r "$(python -m forkdiv.requirements s3)"`, or remove '
            "place.store",
        ) from error

    class OneTry(s3fs.S3FileSystem):  # type: ignore[misc]
        retries = 1  # `Objects` repeats, and knows for how long

    return OneTry(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"total_max_attempts": 1},
        },
    )


def _seconds(when: datetime) -> float:
    return when.timestamp()
