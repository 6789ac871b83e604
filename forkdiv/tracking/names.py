"""Names and values that every MLflow server takes."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping

from forkdiv.core.errors import shortened

MAX_NAME, MAX_VALUE = 250, 5000  # characters that every server takes


def valid_name(name: str) -> str:
    """Returns a name that MLflow takes for a metric, param or tag: the name of a subset may have
    any characters. A name that must be changed ends with a hash, so that two stay two."""
    valid = re.sub(r"[^\w.\- :/]", "_", name) or "_"
    if posixpath.normpath(valid) != valid or valid.startswith(("/", "..")):
        valid = valid.replace("/", "_").strip(".") or "_"
    if valid == name and len(name) <= MAX_NAME:
        return name
    return f"{valid[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def valid_values(values: Mapping[str, object]) -> dict[str, str]:
    """Returns the values as text that MLflow takes for params and tags."""
    return {valid_name(key): shortened(str(value), MAX_VALUE) for key, value in values.items()}


def without_password(text: str) -> str:
    """Returns the text without the names and passwords that addresses in it may have."""
    return re.sub(r"//[^/@\s]*@", "//", text)
