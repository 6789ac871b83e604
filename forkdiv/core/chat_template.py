"""Where a chat template is found: in the files of a checkpoint, in a file, or given as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.errors import shortened
from forkdiv.core.hub_names import is_name, model_name, model_or_path

TEMPLATE_FILE = "chat_template.jinja"
NAMED_TEMPLATES = "additional_chat_templates"  # a folder of NAME.jinja
TOKENIZER_SETTINGS = "tokenizer_config.json"
DEFAULT = "default"  # name of the template for conversations without tools
DATE = "2026-01-01"  # the date that a template sees as today, unless prompt.date is set
MAX_BYTES = 2**24  # of a file; published templates have some ten thousand
MAX_ARGS_CHARACTERS = 2**16  # of all arguments of a template together, as JSON
# what the renderer itself gives a template, and what transformers' functions take beside it
RESERVED_ARGS = (
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "conversation",
    "chat_template",
    "tokenize",
    "raise_exception",
    "strftime_now",
)
SPECIAL_TOKEN = "_token"  # ending of the names of special tokens, such as bos_token


def template_text(value: str) -> str:
    """Returns the template that a setting names: the content of a file, the template of a
    checkpoint folder, or the value itself if it is a template. The name of a model on the hub is
    returned as it is, for the command line to replace.

    Raises ValueError if there is none.
    """
    if "{" in value or "\n" in value:
        return value
    path = Path(value)
    if is_model_name(value):
        return value
    try:
        path.stat()
    except (OSError, ValueError) as error:  # also a name that is too long, or has a null character
        raise ValueError(_refusal(value, "no such file or folder")) from error
    if path.is_dir():
        found = checkpoint_template(path)
        if found is None:
            raise ValueError(_refusal(value, "a folder without a chat template"))
        return found
    if not path.is_file():  # also a device or a pipe, which might never end
        raise ValueError(_refusal(value, "no such file or folder"))
    return _read(path)


def is_model_name(value: str) -> bool:
    """Returns whether the setting is the name of a model on the hub, not a template or a path."""
    return model_name(value) is not None and is_name(Path(str(model_or_path(value))))


def is_reserved(name: str) -> bool:
    """Whether forkdiv itself gives a template the variable of this name, or none may be given."""
    return name in RESERVED_ARGS or name.endswith(SPECIAL_TOKEN)


def check_template_args(args: Mapping[str, Any]) -> None:
    """Raises ValueError for arguments that a chat template cannot be given: a name that is reserved
    or no name of a variable, a number that JSON does not have, or too long values."""
    for name in args:
        if is_reserved(name):
            raise ValueError(
                f"the template argument {shortened(repr(name))} is reserved: forkdiv sets it; "
                f"allowed: other names than {', '.join(RESERVED_ARGS)} and those that end in "
                f"{SPECIAL_TOKEN}"
            )
        if not name.isidentifier() or name.startswith("__"):
            raise ValueError(
                f"the template argument {shortened(repr(name))} is not the name of a variable; "
                "allowed: letters, digits and _, such as enable_thinking"
            )
    try:
        characters = len(json.dumps(args, allow_nan=False))
    except ValueError as error:
        raise ValueError(
            "a template argument is NaN or infinite; allowed: finite numbers"
        ) from error
    if characters > MAX_ARGS_CHARACTERS:
        raise ValueError(
            f"the template arguments are too long: got {characters} characters; allowed: at most "
            f"{MAX_ARGS_CHARACTERS} as JSON"
        )


def checkpoint_template(path: Path) -> str | None:
    """Returns the chat template of a checkpoint folder, as transformers chooses it: template files
    come before tokenizer_config.json. None if it has none.

    Raises ValueError if a file cannot be read, or if the folder has named templates only.
    """
    named: dict[str, str] = {}
    if (path / TEMPLATE_FILE).exists():
        named[DEFAULT] = _read(path / TEMPLATE_FILE)
    for file in sorted((path / NAMED_TEMPLATES).glob("*.jinja")):
        named[file.name.removesuffix(".jinja")] = _read(file)
    if not named:
        named = _in_settings(path / TOKENIZER_SETTINGS)
    if not named:
        return None
    if DEFAULT not in named:
        raise ValueError(
            f"the checkpoint {path} has no default chat template: got {', '.join(sorted(named))}; "
            f"allowed: a template named {DEFAULT}; name one of them in prompt.chat_template"
        )
    return named[DEFAULT]


def _in_settings(path: Path) -> dict[str, str]:
    """Returns the templates in tokenizer_config.json by name: one text, or named ones."""
    if not path.exists():
        return {}
    try:
        settings: Any = json.loads(_read(path))
        value = settings.get("chat_template")
        if isinstance(value, list):
            return {str(entry["name"]): str(entry["template"]) for entry in value}
        if isinstance(value, dict):
            return {str(name): str(template) for name, template in value.items()}
    except (AttributeError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read: got {type(error).__name__} {error}; allowed: a JSON object "
            "as save_pretrained writes it; save the tokenizer again"
        ) from error
    return {DEFAULT: value} if isinstance(value, str) and value else {}


def _read(path: Path) -> str:
    if not path.is_file():
        raise ValueError(
            f"{path} is not a regular file; allowed: a file with text; replace it, or remove it"
        )
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: got {error.strerror}; allowed: a readable file with text; "
            "replace it, or remove it"
        ) from error
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"{path} is too large: got more than {MAX_BYTES} bytes; allowed: a chat template or "
            "the settings of a tokenizer; check the file"
        )
    try:
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8: got {error.reason} at byte {error.start}; allowed: "
            "UTF-8; save it again"
        ) from error


def _refusal(value: str, came: str) -> str:
    return (
        f"chat_template={shortened(repr(value))} names no template: got {came}; allowed: a Jinja "
        "file, a checkpoint folder with a chat template, or a template; correct "
        "prompt.chat_template"
    )
