"""Models and tokenizers: tiny presets, Hugging Face folders, probabilities of given responses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from forkdiv.core.config.study import DecoderConfig, PromptConfig
from forkdiv.core.errors import refuse
from forkdiv.models.decoding import distribution
from forkdiv.models.digests import check_seal
from forkdiv.models.prompting import encode

Floats = NDArray[np.float64]

disable_progress_bar()  # a bar per loaded checkpoint would drown the study's own progress

PAD, UNKNOWN = "<pad>", "<unk>"

# What one batch holds, and how many of its logits are doubled at once: a large vocabulary's
# would not fit otherwise.
TOKENS_AT_ONCE = 2**13
DOUBLES_AT_ONCE = 2**23

# name: (layers, hidden, heads, feed-forward). Llama blocks with tied embeddings, as most small
# published models have, so that every trap of tied weights is met here first. Not Qwen2:
# AutoTokenizer of transformers 5 puts Qwen's own pre-tokenizer over any tokenizer.json found
# beside a qwen2 config.json, and the words of a word-level vocabulary fall apart silently.
PRESETS = {"tiny-llama": (4, 128, 4, 320), "micro-llama": (2, 64, 2, 128)}


def word_tokenizer(vocabulary: Sequence[str], end: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over `vocabulary` and the end token; of words that begin alike
    the longest is taken."""
    words = {word: i for i, word in enumerate([PAD, end, UNKNOWN, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    longest_first = sorted(vocabulary, key=len, reverse=True)
    # what only begins like a word is none: it is taken whole, so that it shows as one unknown
    known = "|".join(
        re.escape(word) + ("(?![A-Za-z0-9])" if word[-1].isalnum() else "")
        for word in longest_first
    )
    pieces = pre_tokenizers.Split(Regex(f"{known}|[A-Za-z0-9]+|."), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pieces])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=PAD, unk_token=UNKNOWN
    )


def new_model(
    preset: str, tokenizer: PreTrainedTokenizerBase, seed: int, context: int = 512
) -> PreTrainedModel:
    """A model of random weights that reads `context` tokens. Raises UserError for an unknown
    preset."""
    if preset not in PRESETS:
        raise refuse("unknown model preset", preset, ", ".join(PRESETS), "set pretrain.preset")
    layers, hidden, heads, feed_forward = PRESETS[preset]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # no sampling defaults travel with a checkpoint: the decoder alone decides
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return tokenizer


def load_model(path: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load safetensors only; missing or unexpected tensors, and weights that are not as we
    wrote them, are an error, not a warning."""
    check_seal(path)
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (RuntimeError, OSError, SafetensorError) as error:
        raise refuse(
            f"the checkpoint {path} cannot be loaded",
            " ".join(str(error).split())[:300],
            "whole safetensors files of its config.json's shapes",
            "copy or export it again",
        ) from error
    wrong = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys") if info[kind]}
    wrong |= (
        {"mismatched_keys": sorted(map(str, info["mismatched_keys"]))}
        if info["mismatched_keys"]
        else {}
    )
    if wrong:
        raise refuse(
            f"the checkpoint {path} does not hold its model's tensors",
            wrong,
            "exactly the tensors of its config.json",
            "export it again",
        )
    model: PreTrainedModel = loaded
    return model


def next_token_logprobs(
    path: Path, prompts: Sequence[Sequence[int]], dtype: str = "float32"
) -> list[np.ndarray]:
    """Log-probabilities of every next token after each prompt, from the saved files alone.

    One float64 array of shape (vocabulary,) per prompt; the model computes in `dtype`.
    """
    model = load_model(path, getattr(torch, dtype)).eval()
    with torch.inference_mode():
        logits = [model(torch.tensor([list(prompt)])).logits[0, -1] for prompt in prompts]
    return [torch.log_softmax(row.double(), dim=-1).numpy() for row in logits]


def response_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    temperatures: Sequence[float],
    prompt_config: PromptConfig | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> Floats:
    """Teacher-forced probability of each (prompt, response), its end token included.

    Returns float64 of shape (pairs, temperatures). Temperature 0 is greedy: 1 where every
    token is the most likely one, else 0.
    """
    config = prompt_config or PromptConfig()
    encoded = [encode(tokenizer, prompt, response, config) for prompt, response in pairs]
    asked = [
        (row, len(head) + i, token)
        for row, (head, tail) in enumerate(encoded)
        for i, token in enumerate(tail)
    ]
    whole = [head + tail for head, tail in encoded]
    steps = token_logprobs(model, whole, asked, temperatures, tokens_at_once)
    starts = np.cumsum([0, *(len(tail) for _, tail in encoded)])[:-1]
    return np.asarray(np.exp(np.add.reduceat(steps, starts, axis=0)))


def token_logprobs(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    asked: Sequence[tuple[int, int, int]],
    temperatures: Sequence[float | DecoderConfig],
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> Floats:
    """Log-probabilities of single tokens, each after the beginning of a sequence.

    One of `asked` is the index of a sequence, how many of its tokens are given (1 or more), and
    the token that may follow them. Returns float64 of shape (asked, temperatures). Temperature 0
    is greedy: 0 for the most likely token, else -inf. In the place of a temperature a decoder
    may stand. `tokens_at_once` bounds a batch.

    Raises ValueError where no token is given.
    """
    model.eval()
    row, given, token = torch.tensor(asked, dtype=torch.long).reshape(-1, 3).unbind(-1)
    if (given < 1).any():
        first = int((given < 1).nonzero()[0])
        raise ValueError(f"a model needs a token to begin from, asked[{first}] is {asked[first]}")
    out = torch.empty((len(asked), len(temperatures)), dtype=torch.float64)
    place = torch.full((len(sequences),), -1)
    for rows in _batches(sequences, tokens_at_once):
        # right padding: a causal model's answer does not depend on what comes after
        ids = pad_sequence([torch.tensor(sequences[i]) for i in rows], batch_first=True)
        place[rows] = torch.arange(len(rows))
        here = (place[row] >= 0).nonzero()[:, 0]
        with torch.inference_mode():
            logits = model(ids).logits
            for part in torch.split(here, max(DOUBLES_AT_ONCE // logits.shape[-1], 1)):
                after = logits[place[row[part]], given[part] - 1].double()
                out[part] = _logprobs(after, token[part], temperatures)
        place[rows] = -1
    return np.asarray(out.numpy())


def _batches(sequences: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Indices of sequences that fit into one batch, the shortest first."""
    batch: list[int] = []
    for row in sorted(range(len(sequences)), key=lambda row: len(sequences[row])):
        if batch and (len(batch) + 1) * len(sequences[row]) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _logprobs(
    logits: torch.Tensor, tokens: torch.Tensor, temperatures: Sequence[float | DecoderConfig]
) -> torch.Tensor:
    """Shape (tokens, temperatures), from logits of shape (tokens, vocabulary)."""
    columns = []
    for temperature in temperatures:
        if isinstance(temperature, DecoderConfig):
            p = torch.from_numpy(distribution(logits.numpy(), temperature))
            columns.append(p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).log())
        elif temperature == 0:
            columns.append(torch.where(logits.argmax(-1) == tokens, 0.0, -torch.inf).double())
        else:
            steps = torch.log_softmax(logits / temperature, dim=-1)
            columns.append(steps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1))
    return torch.stack(columns, dim=-1)
