"""Reads the small files of a checkpoint folder, which may come from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forkdiv.core.chat_template import TEMPLATE_FILE
from forkdiv.core.errors import UserError, refuse

# the files from which a tokenizer, its template and its end tokens are loaded
TOKEN_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    TEMPLATE_FILE,
)
MAX_JSON_BYTES = 2**28  # the tokenizer.json of a vocabulary of 250,000 has 30 MB


def check_regular(path: Path, most_bytes: int | None = None) -> None:
    """Raises UserError for a pipe, a device or a folder, since reading it could block for ever, and
    for a file of more than `most_bytes`. A missing file is accepted."""
    if path.exists() and not path.is_file():
        raise refuse(
            f"{path} is not a regular file",
            "a folder" if path.is_dir() else "a pipe, a socket or a device",
            "the file that save_pretrained writes",
            "copy or export the checkpoint again",
        )
    if most_bytes is not None and path.exists() and (size := path.stat().st_size) > most_bytes:
        raise refuse(
            f"{path} is too large",
            f"{size:,} bytes",
            f"at most {most_bytes:,} bytes",
            "copy or export the checkpoint again",
        )


def read_json(path: Path, optional: bool = False) -> dict[str, Any]:
    """Returns the JSON object in a file; an empty one for a missing file that is `optional`.

    Raises UserError if the file cannot be read or contains anything else.
    """
    if optional and not path.exists():
        return {}
    check_regular(path, MAX_JSON_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))  # as transformers reads it
        if not isinstance(content, dict):
            raise ValueError(f"a JSON {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error
    return content


def is_file_name(text: str) -> bool:
    """Returns whether the text can be the name of a file in a folder, on common file systems."""
    return (
        text not in ("", ".", "..")
        and Path(text).name == text
        and "\0" not in text
        and len(text) < 200
    )


def unreadable(path: Path, error: Exception) -> UserError:
    """Returns the refusal of a file of a checkpoint that cannot be read."""
    detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return refuse(
        f"the checkpoint {path.parent} has no readable {path.name}",
        " ".join(detail.split())[:200] or type(error).__name__,
        "the file that save_pretrained writes",
        "copy or export the checkpoint again",
    )
