"""Repositories of the Hugging Face Hub, downloaded through huggingface_hub into its own cache.

The environment decides where from and where to, as for every program that uses the hub: HF_TOKEN,
HF_HOME and HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE. Every error of the hub becomes one line that
names the repository and what to do.
"""

from __future__ import annotations

import difflib
import errno
import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from forkdiv.core.errors import InvalidResult, UserError, refuse, shortened
from forkdiv.core.files import size_text
from forkdiv.core.hub_names import DatasetName, ModelName

if TYPE_CHECKING:
    from huggingface_hub import ResolvedRevision

Kind = Literal["model", "dataset"]
TOKEN = "HF_TOKEN"
OFFLINE = "HF_HUB_OFFLINE"
LISTED = 10  # names of branches, files or subsets that a message lists
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Repository:
    """A repository at one commit. Its files come from the cache, or are downloaded into it."""

    kind: Kind
    name: ModelName | DatasetName
    revision: ResolvedRevision

    @property
    def commit(self) -> str:
        """The 40 hexadecimal digits of the commit."""
        return self.revision.resolved

    @cached_property
    def files(self) -> Mapping[str, int]:
        """The size in bytes of every file of the repository at this commit. Without network, and in
        a cache that an older huggingface_hub filled, the files that are in the cache.

        Raises UserError if neither the hub nor the cache can be asked.
        """
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            tree = get_cached_repo_tree(self.name.repo, repo_type=self.kind, revision=self.commit)
            sizes = {file.path: int(file.size) for file in tree}
        except CachedRepoTreeNotFoundError:
            sizes = self._list_files()
        return {path: size for path, size in sorted(sizes.items()) if _is_inside(path)}

    def _list_files(self) -> dict[str, int]:
        from httpx2 import TransportError
        from huggingface_hub import HfApi, RepoFile
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            with _one_line(self.kind, self.name, (OfflineModeIsEnabled, TransportError)):
                tree = HfApi().list_repo_tree(
                    self.name.repo, recursive=True, revision=self.commit, repo_type=self.kind
                )
                return {file.path: int(file.size) for file in tree if isinstance(file, RepoFile)}
        except (OfflineModeIsEnabled, TransportError) as error:
            if not self._snapshot.is_dir():
                raise _unreachable(self.kind, self.name, error) from error
            found = (path for path in self._snapshot.rglob("*") if path.is_file())
            return {
                path.relative_to(self._snapshot).as_posix(): path.stat().st_size for path in found
            }

    @property
    def _snapshot(self) -> Path:
        return _cached(self.kind, self.name.repo) / "snapshots" / self.commit

    def folder(self, names: Iterable[str]) -> Path:
        """Returns the folder in the cache with these files of the repository, whole; those that are
        missing are downloaded.

        huggingface_hub takes up a broken connection five times, where it broke. If it gives up,
        the files that are whole stay in the cache, and the next call downloads the others.

        Raises UserError if the disk has too little space, if the hub refuses, or if it cannot be
        reached and the cache lacks a file; InvalidResult if the download ends before its end.
        """
        from huggingface_hub import snapshot_download

        names = list(names)
        if not self._lacks(names):
            return self._snapshot
        self.require_space(names)
        with _one_line(self.kind, self.name):
            folder = snapshot_download(
                self.name.repo,
                repo_type=self.kind,
                revision=self.revision,
                allow_patterns=[glob.escape(name) for name in names],
            )
        return Path(folder)

    def missing(self, names: Iterable[str]) -> int:
        """Returns the number of bytes of these files that the cache does not have yet."""
        return sum(self.files[name] for name in self._lacks(names))

    def _lacks(self, names: Iterable[str]) -> list[str]:
        # huggingface_hub puts a file there only when it is whole
        return [name for name in names if not (self._snapshot / name).exists()]

    def require_space(self, names: Iterable[str]) -> None:
        """Raises UserError if the cache's disk has less free space than these files need."""
        needed = self.missing(names)
        cache = _existing(cache_folder())
        free = shutil.disk_usage(cache).free
        if needed > free:
            raise refuse(
                f"the disk has too little space for {self.name}",
                f"{size_text(needed)} to download, and {size_text(free)} free at {cache}",
                "a cache of the Hugging Face Hub with enough space",
                "free some space, or set HF_HOME to a folder on another disk",
            )


def open_repository(kind: Kind, name: ModelName | DatasetName) -> Repository:
    """Returns the repository at the commit that its revision is now; without network, at the commit
    that it was when the cache last saw it.

    Raises UserError if there is no such repository or revision, if it may not be read, or if the
    hub cannot be reached and the cache does not know the revision.
    """
    from huggingface_hub import HfApi, constants

    with _one_line(kind, name):
        revision = HfApi().resolve_revision(
            name.repo,
            repo_type=kind,
            revision=name.revision,
            local_files_only=constants.is_offline_mode(),
        )
    return Repository(kind, name, revision)


def is_cached(kind: Kind, repo: str) -> bool:
    """Returns whether the cache has a commit of the repository."""
    return any((_cached(kind, repo) / "snapshots").glob("*"))


def _cached(kind: Kind, repo: str) -> Path:
    return cache_folder() / f"{kind}s--{repo.replace('/', '--')}"


def cache_folder() -> Path:
    """Returns the folder of huggingface_hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().absolute()


def listed(names: Iterable[str]) -> str:
    """Returns the first names for a message, and how many more there are."""
    names = [shortened(name, 80) for name in names]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "none") + more


@contextmanager
def _one_line(
    kind: Kind,
    name: ModelName | DatasetName,
    but: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turns what huggingface_hub raises in the block into one line; `but` passes unchanged."""
    from httpx2 import HTTPError
    from huggingface_hub import errors

    try:
        yield
    except but:
        raise
    except errors.GatedRepoError as error:
        raise _gated(kind, name) from error
    except errors.RepositoryNotFoundError as error:
        raise _not_found(kind, name) from error
    except errors.RevisionNotFoundError as error:
        raise _no_revision(kind, name) from error
    except (
        errors.RevisionResolutionError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
    ) as error:
        raise _unreachable(kind, name, error) from error
    except errors.HfHubHTTPError as error:
        raise _refused(kind, name, error) from error
    except errors.HFValidationError as error:
        raise refuse(
            f"{name} cannot be the name of a {kind} on the Hugging Face Hub",
            " ".join(str(error).split()),
            f"letters, digits, -, _ and . ({kind}s are named org/name)",
            "correct the name",
        ) from error
    except (HTTPError, errors.XetDownloadError, errors.FileMetadataError) as error:
        raise _interrupted(name, error) from error
    except OSError as error:
        if error.errno in _FULL:
            raise InvalidResult(
                f"the disk is full: downloading {name} into {cache_folder()} failed; free some "
                "space, or set HF_HOME to a folder on another disk, and run the same command "
                "again: the files that are complete are kept"
            ) from error
        if error.errno is not None:
            raise refuse(
                f"{name} cannot be written into the cache of the Hugging Face Hub",
                f"{error.filename or cache_folder()} ({error.strerror})",
                "a folder you have write permission for",
                "set HF_HOME to another folder",
            ) from error
        raise _interrupted(name, error) from error


def _gated(kind: Kind, name: ModelName | DatasetName) -> UserError:
    if _has_token():
        came = "a token whose account has no access to it"
        remedy = f"ask for access at {_page(kind, name)}, then run the same command again"
    else:
        came = "no token"
        remedy = f"accept its terms at {_page(kind, name)}, and set {TOKEN} to a token of yours"
    return refuse(
        f"the {kind} {name.repo} is gated: its owner decides who may download it",
        came,
        f"a token ({TOKEN}) of an account with access",
        remedy,
    )


def _not_found(kind: Kind, name: ModelName | DatasetName) -> UserError:
    who = "that this token may read" if _has_token() else "that can be read without a token"
    private = "" if _has_token() else f", or set {TOKEN} if it is private"
    return refuse(
        f"{name.repo} is neither on this machine nor a {kind} on the Hugging Face Hub {who}",
        name,
        f"an existing path, or the name of a {kind} on the hub",
        _nearest(name.repo) or f"correct the name or the path{private}",
    )


def _nearest(repo: str) -> str | None:
    """Returns a hint if the name reads like a path of this machine: the nearest file or folder."""
    above, _, last = repo.partition("/")
    try:
        inside = sorted(entry.name for entry in Path(above).iterdir())
    except OSError:
        return None
    near = difflib.get_close_matches(last, inside, n=1)
    if near:
        return f"did you mean {above}/{near[0]}, which is on this machine?"
    return f"the folder {above} of this machine has {listed(inside)}"


def _no_revision(kind: Kind, name: ModelName | DatasetName) -> UserError:
    return refuse(
        f"the {kind} {name.repo} has no revision of this name",
        name.revision,
        f"a branch, a tag or a commit: {_revisions(kind, name)}",
        "correct what follows the @",
    )


def _revisions(kind: Kind, name: ModelName | DatasetName) -> str:
    """Returns the names of branches and tags, nearest first. A hub that does not list them leaves a
    message without them: it is a hint only."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(name.repo, repo_type=kind)
    except (OSError, ValueError) as error:
        return f"{kind}s have the branch main (their list cannot be read: {type(error).__name__})"
    names = [ref.name for ref in [*refs.branches, *refs.tags, *(refs.converts or [])]]
    near = difflib.get_close_matches(name.revision or "", names, n=LISTED, cutoff=0.5)
    return listed(dict.fromkeys([*near, *names]))


def _unreachable(kind: Kind, name: ModelName | DatasetName, error: Exception) -> UserError:
    from huggingface_hub import constants

    partly = is_cached(kind, name.repo)
    cached = "a part of it is in the cache" if partly else "it is not in the cache"
    if constants.is_offline_mode():
        came = f"{OFFLINE}=1, and {cached} ({cache_folder()})"
        remedy = f"unset {OFFLINE}, or download it first on a machine with a network"
    else:
        reason = error.__cause__ or error
        text = shortened(" ".join(str(reason).split()), 200)
        came = f"no answer from {_endpoint()} ({text}), and {cached} ({cache_folder()})"
        remedy = "check the network (HF_ENDPOINT, proxies), or use a path on this machine"
    return refuse(
        f"{name} is not on this machine, and the Hugging Face Hub cannot be asked for it",
        came,
        f"a {kind} in the cache, or a network",
        f"{remedy}{_or_nearest(name.repo)}",
    )


def _or_nearest(repo: str) -> str:
    hint = _nearest(repo)
    return f"; {hint}" if hint else ""


def _refused(kind: Kind, name: ModelName | DatasetName, error: Exception) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    # the first line; what follows is advice of the library for HTTP in general
    text = str(error).strip().partition("\n")[0].partition(" For more information")[0]
    remedy = {
        404: f"check HF_ENDPOINT ({_endpoint()}): no hub answers there",
        401: f"set {TOKEN} to a valid token, or unset it",
        403: f"use a token that may read it ({TOKEN}), or ask for access at {_page(kind, name)}",
        429: f"wait and run the same command again, or set {TOKEN}: the hub limits how often it "
        "is asked, less with a token",
    }.get(status or 0, "run the same command again later")
    return refuse(
        f"the Hugging Face Hub refuses the {kind} {name}",
        shortened(text, 300),
        f"a {kind} that may be read",
        remedy,
    )


def _interrupted(name: ModelName | DatasetName, error: Exception) -> InvalidResult:
    text = shortened(" ".join(str(error).split()), 200)
    return InvalidResult(
        f"downloading {name} from {_endpoint()} was interrupted ({type(error).__name__}: {text}); "
        "run the same command again: the files that are complete are kept"
    )


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _page(kind: Kind, name: ModelName | DatasetName) -> str:
    return f"{_endpoint()}/{'datasets/' if kind == 'dataset' else ''}{name.repo}"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if os.path.isdir(folder))


def _is_inside(path: str) -> bool:
    """Returns whether a path of a listing stays in its folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts
