"""Whether the responses of a checkpoint have thinking, and the tags around it: from its chat
template and its vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.thinking import TAGS, Thinking, opens
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.files import TOKEN_FILES
from forkdiv.models.prompting import chat_text, read_template

PROBE = "1 + 1 = ?"  # a prompt, to see how the template ends


def checkpoint_tags(path: Path, config: PromptConfig) -> tuple[str, str] | None:
    """Returns the tags that the checkpoint's chat template writes or reads, if the prompt uses it,
    or that its vocabulary has; None if there are none."""
    if config.template == "chat":
        template = config.chat_template or read_template(path)
        # a template may open the thinking and leave its end to the response
        written = (pair for pair in TAGS if any(tag in (template or "") for tag in pair))
        if tags := next(written, None):
            return tags
    return _tags_in_vocabulary(path)


def _tags_in_vocabulary(path: Path) -> tuple[str, str] | None:
    """Returns the tags of which the closing one is a token. The files are searched as bytes: a
    tokenizer that is loaded for this would import torch where a stored summary needs none."""
    files = [path / name for name in TOKEN_FILES]
    contents = [file.read_bytes() for file in files if file.is_file()]
    for start, end in TAGS:
        tokens = {json.dumps(end, ensure_ascii=ascii).encode() for ascii in (True, False)}
        if any(token in content for token in tokens for content in contents):
            return start, end
    return None


def with_prompt(tags: tuple[str, str], path: Path | None, config: PromptConfig) -> Thinking:
    """Returns the thinking with these tags, as the prompt of the checkpoint `path` begins it."""
    start, end = tags
    return Thinking(start, end, opened=bool(start) and opens(_probe_prompt(path, config), start))


def opening_tag(path: Path | None, config: PromptConfig) -> str:
    """Returns the known opening tag with which the chat template of the checkpoint `path` ends its
    prompts; empty if there is none."""
    prompt = _probe_prompt(path, config)
    return next((start for start, _ in TAGS if opens(prompt, start)), "")


def _probe_prompt(path: Path | None, config: PromptConfig) -> str:
    if path is None or config.template != "chat":
        return ""
    return chat_text(own_tokenizer(path).tokenizer, PROBE, config)
