"""Turns problems into token ids, in the same way for training and for sampling.

The template is applied only here. Text rendered by a chat template already contains its special
tokens, so none are added again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forkdiv.core.chat import split_shots, unpack
from forkdiv.core.chat_template import checkpoint_template, is_reserved
from forkdiv.core.config.study import PromptConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.thinking import continuation
from forkdiv.models.template_render import RENDERER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BETWEEN_SHOTS = "\n\n"  # without a chat template


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, config: PromptConfig, prefix: str = ""
) -> list[int]:
    """Returns the token ids of the prompt in its template, followed by those of `prefix`, the
    beginning of a response.

    Raises UserError for a conversation of several turns without a chat template.
    """
    ids: list[int]
    if config.template == "chat":
        ids = tokenizer(chat_text(tokenizer, prompt, config), add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(plain_text(prompt, config))["input_ids"]
    return ids + response_ids(tokenizer, prefix) if prefix else ids


def response_ids(tokenizer: PreTrainedTokenizerBase, response: str) -> list[int]:
    """Returns the token ids of a response or of its beginning, without an end token."""
    ids: list[int] = tokenizer(response, add_special_tokens=False)["input_ids"]
    return ids


def ids_with_offsets(
    tokenizer: PreTrainedTokenizerBase, response: str
) -> tuple[list[int], list[int]]:
    """Returns `response_ids`, and the offset in characters at which each token ends.

    Raises UserError for a tokenizer without offsets.
    """
    if not tokenizer.is_fast:
        raise refuse(
            "the tokenizer does not support character offsets",
            type(tokenizer).__name__,
            "a fast tokenizer",
            "export the checkpoint with a tokenizer.json",
        )
    encoding = tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
    return encoding["input_ids"], [end for _, end in encoding["offset_mapping"]]


def encode(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, config: PromptConfig
) -> tuple[list[int], list[int]]:
    """Returns the token ids of prompt and response; the response ends with the tokenizer's end
    token. A tag of thinking that the chat template opens at the end of the prompt is not opened
    again by the response."""
    end = tokenizer.eos_token_id
    if config.template == "chat":
        text = chat_text(tokenizer, prompt, config)
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids, [*response_ids(tokenizer, continuation(text, response)), end]
    return prompt_ids(tokenizer, prompt, config), [*response_ids(tokenizer, response), end]


def line_end_ids(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[list[int], list[int]]]
) -> list[int]:
    """Returns the ids used in the responses of `rows` whose text contains a line feed."""
    used = sorted({token for _, response in rows for token in response})
    return [token for token in used if "\n" in tokenizer.decode([token])]


def plain_text(prompt: str, config: PromptConfig) -> str:
    """Returns the text of a prompt without a chat template. Shots stand before it, each with its
    response; a space separates the two unless the template ends in white space."""
    shots, own = split_shots(prompt)
    parts = [_shot_text(_single_turn(asked, config), answered) for asked, answered in shots]
    return BETWEEN_SHOTS.join([*parts, _single_turn(own, config)])


def _shot_text(asked: str, answered: str) -> str:
    gap = "" if asked[-1:].isspace() or answered[:1].isspace() else " "
    return f"{asked}{gap}{answered.rstrip()}"  # code begins with its indentation


def _single_turn(prompt: str, config: PromptConfig) -> str:
    turns = unpack(prompt)
    if len(turns) != 1:
        raise refuse(
            "a conversation of several turns needs a chat template",
            f"{len(turns)} turns with prompt.template={config.template}",
            "prompt.template=chat",
            "set prompt.template=chat, or use a column of single prompts",
        )
    text = turns[0]["content"]
    return config.text.replace("{prompt}", text) if config.template == "plain" else text


def chat_text(tokenizer: PreTrainedTokenizerBase, prompt: str, config: PromptConfig) -> str:
    """Returns the prompt rendered by prompt.chat_template, or by the tokenizer's own chat template,
    with the generation prompt.

    Raises UserError for a template that does not parse, raises, or exceeds a limit.
    """
    turns = unpack(prompt)
    if config.system is not None and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": config.system}, *turns]
    template = config.chat_template or tokenizer.get_chat_template()
    whose = "prompt.chat_template" if config.chat_template else str(tokenizer.name_or_path)
    special = _special_tokens(tokenizer)
    return RENDERER.render(template, turns, special, config.date, whose, config.template_args)


def unread_args(template: str, args: Collection[str], whose: str) -> tuple[list[str], str]:
    """Returns the arguments that the chat template never reads, and as text those that it reads;
    `whose` names it in errors. Raises UserError for a template that does not parse."""
    if not args:
        return [], ""
    names = RENDERER.variables(template, whose)
    own = (name for name in sorted(names) if not is_reserved(name))
    return sorted(set(args) - names), ", ".join(own) or "none"


def check_template(path: Path, config: PromptConfig) -> None:
    """Raises UserError for prompt.template=chat if the checkpoint has no chat template."""
    if config.template != "chat" or config.chat_template or read_template(path):
        return
    raise refuse(
        f"the checkpoint {path} has no chat template",
        "prompt.template=chat",
        "prompt.template=plain or raw, or a checkpoint tuned for chat",
        "set prompt.template=plain, or prompt.chat_template to a template for all checkpoints",
    )


def read_template(path: Path) -> str | None:
    """Returns the chat template in the files of a checkpoint, or None. Raises UserError if it
    cannot be read."""
    try:
        return checkpoint_template(path)
    except ValueError as error:
        raise UserError(str(error)) from error


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, str | list[str]]:
    """Returns the special tokens that a template can write, by name, as plain text."""
    return {
        name: [str(item) for item in value] if isinstance(value, list | tuple) else str(value)
        for name, value in tokenizer.special_tokens_map.items()
    }
