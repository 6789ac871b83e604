"""Fingerprints: a hash of everything that decides a result. Equal fingerprints, equal inputs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

# Increased by hand when a stage is corrected and its old results are no longer valid.
STAGE_VERSIONS = {
    "dataset": 2,
    "synthesis": 2,
    "start": 2,
    "base": 1,
    "train": 2,
    "interpolation": 1,
    "adapter": 1,
    "samples": 4,
    "verdicts": 4,
    "exact": 2,
    "forks": 1,
    "study": 3,
    "source": 1,
    "part": 1,
    "learnability": 1,
}
# Stages whose results are identified by their content where they are used
BY_CONTENT = ("source", "adapter")
# Stages that only some studies have: their versions are part of those studies' results alone
OPTIONAL = ("part", "learnability")

# Libraries whose release can change a stage's numbers.
STAGE_LIBRARIES = {
    "dataset": ("pyarrow",),
    "synthesis": ("pyarrow", "torch", "vllm"),
    "start": ("torch", "transformers"),
    "train": ("torch", "transformers", "deepspeed"),
    "part": ("pyarrow",),
    "learnability": ("torch", "transformers", "numpy"),
    "samples": ("torch", "vllm", "transformers", "tokenizers"),
    "exact": ("torch", "transformers"),
    "forks": ("torch", "transformers"),
    "study": ("numpy", "scipy"),
}


@dataclass(frozen=True)
class Identity:
    """The inputs of one result: its stage, config values and parent results."""

    stage: str
    config: Mapping[str, Any]
    parents: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Returns the hashed content as plain JSON values."""
        libraries = {name: library_version(name) for name in STAGE_LIBRARIES.get(self.stage, ())}
        return {
            "stage": self.stage,
            "version": STAGE_VERSIONS[self.stage],
            "config": canonical(self.config),
            "parents": dict(sorted(self.parents.items())),
            "libraries": libraries,
        }

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits."""
        return fingerprint_of(self.describe())


def fingerprint_of(description: Mapping[str, Any]) -> str:
    """Returns the fingerprint of the hashed content of an identity (`Identity.describe`)."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def stages(optional: bool = False) -> dict[str, Any]:
    """Returns version and libraries of every stage, for a result that depends on all of them; those
    of OPTIONAL only if asked for. Those of BY_CONTENT are left out: what they made is in the
    result's other inputs."""
    without = BY_CONTENT if optional else (*BY_CONTENT, *OPTIONAL)
    return {
        stage: {
            "version": version,
            "libraries": {n: library_version(n) for n in STAGE_LIBRARIES.get(stage, ())},
        }
        for stage, version in STAGE_VERSIONS.items()
        if stage not in without
    }


def canonical(value: Any) -> Any:
    """Returns `value` as plain JSON values.

    Raises TypeError for objects without a stable form (str() is never called on them) and
    ValueError for NaN and infinities.
    """
    if isinstance(value, BaseModel):
        return canonical(value.model_dump())
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a fingerprint accepts finite numbers only, got {value}")
        # 1 and 1.0 are two YAML spellings of the same setting
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"a fingerprint accepts mappings with string keys only: {list(value)}")
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    raise TypeError(
        f"a fingerprint accepts plain JSON values only, got {type(value).__name__}: {value!r}; "
        "pass a value that identifies it (a content hash, a number, a name) instead"
    )


def file_digest(path: str | None) -> str | None:
    """Returns the SHA-256 of a file's content; None for an object that is in no file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None


@cache
def library_version(name: str) -> str:
    """Returns the release without the build tag: `2.13.0` for `2.13.0+cpu` and `2.13.0+cu130`."""
    for distribution in (name, f"{name}-cpu"):
        try:
            return metadata.version(distribution).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    raise metadata.PackageNotFoundError(f"{name} is not installed; run `make setup`")
