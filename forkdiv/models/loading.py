"""Models and tokenizers: tiny presets, loading from folders, probabilities of responses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from forkdiv.core.config.study import DecoderConfig, PromptConfig
from forkdiv.core.errors import refuse
from forkdiv.models.decoding import distribution
from forkdiv.models.digests import check_digests
from forkdiv.models.end_tokens import ids_in_configs
from forkdiv.models.files import TOKEN_FILES, check_regular
from forkdiv.models.prompting import encode
from forkdiv.models.supported import check_no_remote_code

Floats = NDArray[np.float64]

disable_progress_bar()  # one bar per loaded checkpoint would hide the progress of the study
set_verbosity_error()  # its table of tensors that do not fit would stand before our refusal

PAD, UNKNOWN = "<pad>", "<unk>"

# Tokens per batch, and how many logits are converted to float64 at a time: with a large vocabulary
# all of them would not fit into memory.
TOKENS_AT_ONCE = 2**13
DOUBLES_AT_ONCE = 2**23

# name: (layers, hidden, heads, feed-forward). Llama blocks with tied embeddings, as in most small
# published models, so that problems of tied weights show up here first. Not Qwen2: AutoTokenizer
# of transformers 5 replaces the pre-tokenizer of a tokenizer.json next to a qwen2 config.json with
# Qwen's own, which silently splits the words of a word-level vocabulary.
PRESETS = {"tiny-llama": (4, 128, 4, 320), "micro-llama": (2, 64, 2, 128)}


def word_tokenizer(vocabulary: Sequence[str], end: str) -> PreTrainedTokenizerFast:
    """Returns a word-level tokenizer over `vocabulary` and the end token; it matches the longest
    word first."""
    words = {word: i for i, word in enumerate([PAD, end, UNKNOWN, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    longest_first = sorted(vocabulary, key=len, reverse=True)
    # text that only starts like a word becomes a single unknown token
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
    """Returns a model with random weights and a context of `context` tokens. Raises UserError for
    an unknown preset."""
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
    # a checkpoint must not carry sampling defaults: only the decoder decides
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Loads the checkpoint's tokenizer as its tokenizer.json describes it. If it has no end token,
    the first one that config.json or generation_config.json names becomes its end token.

    Raises UserError for a tokenizer that cannot be loaded or needs code of its own.
    """
    check_no_remote_code(path)
    for name in TOKEN_FILES:
        check_regular(path / name)
    # AutoTokenizer of transformers 5 replaces normalizer and pre-tokenizer of a tokenizer.json by
    # those that it knows for the architecture, which silently drops parts of other tokenizers' text
    kind = PreTrainedTokenizerFast if (path / "tokenizer.json").is_file() else AutoTokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise refuse(
            f"the tokenizer of the checkpoint {path} cannot be loaded",
            " ".join(f"{type(error).__name__} {error}".split())[:300],
            "the files that save_pretrained of a fast tokenizer writes",
            "copy or export it again",
        ) from error
    if tokenizer.eos_token_id is None:
        named = [id for id in ids_in_configs(path) if 0 <= id < len(tokenizer)]
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(named[0]) if named else None
    return tokenizer


def load_model(path: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Loads a model from safetensors. Raises UserError for missing or unexpected tensors and for
    weights that changed since forkdiv wrote them, and for a model that needs code of its own."""
    check_no_remote_code(path)
    check_digests(path)
    return _loaded(path, dtype=dtype)


def check_loadable(path: Path) -> None:
    """Raises UserError for a checkpoint that `load_model` would refuse, without reading its
    tensors."""
    check_no_remote_code(path)
    _loaded(path, device_map="meta")


def _loaded(path: Path, **options: Any) -> PreTrainedModel:
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **options,
        )
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError) as error:
        raise refuse(
            f"the checkpoint {path} cannot be loaded",
            " ".join(str(error).split())[:300],
            "complete safetensors files with the shapes of its config.json",
            "copy or export it again",
        ) from error
    problems = [
        f"{kind}: {', '.join(sorted(map(str, info[f'{kind}_keys']))[:5])}"
        f"{' …' if len(info[f'{kind}_keys']) > 5 else ''}"
        for kind in ("missing", "unexpected", "mismatched")
        if info[f"{kind}_keys"]
    ]
    if problems:
        raise refuse(
            f"the tensors of the checkpoint {path} do not match its config.json",
            "; ".join(problems),
            "exactly the tensors of its config.json",
            "export it again",
        )
    model: PreTrainedModel = loaded
    return model


def next_token_logprobs(
    path: Path, prompts: Sequence[Sequence[int]], dtype: str = "float32"
) -> list[np.ndarray]:
    """Returns the next-token log-probabilities after each prompt, computed from the saved files.

    One float64 array of shape (vocabulary,) per prompt; the model computes in `dtype`.
    """
    model = load_model(path, getattr(torch, dtype)).eval()
    with torch.inference_mode():
        logits = [model(torch.tensor([list(prompt)])).logits[0, -1] for prompt in prompts]
    return [torch.log_softmax(row.double(), dim=-1).numpy() for row in logits]


def sequence_logprobs(
    path: Path, sequences: Sequence[Sequence[int]], dtype: str = "float32"
) -> Floats:
    """Returns the log-probability of every token but the first of each sequence, in order, computed
    from the saved files in `dtype`; float64 of shape (tokens,)."""
    queries = [(row, i, ids[i]) for row, ids in enumerate(sequences) for i in range(1, len(ids))]
    model = load_model(path, getattr(torch, dtype))
    return token_logprobs(model, sequences, queries, [1.0])[:, 0]


def response_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    temperatures: Sequence[float],
    prompt_config: PromptConfig | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> Floats:
    """Returns the teacher-forced probability of each (prompt, response), end token included.

    float64 of shape (pairs, temperatures). Temperature 0 is greedy: 1 if every token is the most
    likely token, else 0.
    """
    config = prompt_config or PromptConfig()
    encoded = [encode(tokenizer, prompt, response, config) for prompt, response in pairs]
    queries = [
        (row, len(head) + i, token)
        for row, (head, tail) in enumerate(encoded)
        for i, token in enumerate(tail)
    ]
    sequences = [head + tail for head, tail in encoded]
    steps = token_logprobs(model, sequences, queries, temperatures, tokens_at_once)
    starts = np.cumsum([0, *(len(tail) for _, tail in encoded)])[:-1]
    return np.asarray(np.exp(np.add.reduceat(steps, starts, axis=0)))


def token_logprobs(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    queries: Sequence[tuple[int, int, int]],
    temperatures: Sequence[float | DecoderConfig],
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> Floats:
    """Returns log-probabilities of single tokens, each after a prefix of a sequence.

    A query is the index of a sequence, the length of the prefix (1 or more) and the token that may
    follow it. Returns float64 of shape (queries, temperatures). Temperature 0 is greedy: 0 for the
    most likely token, else -inf. A decoder may take the place of a temperature. `tokens_at_once`
    limits the size of a batch.

    Raises ValueError for a prefix of length 0.
    """
    model.eval()
    row, length, token = torch.tensor(queries, dtype=torch.long).reshape(-1, 3).unbind(-1)
    if (length < 1).any():
        first = int((length < 1).nonzero()[0])
        raise ValueError(f"a prefix needs at least one token, queries[{first}] is {queries[first]}")
    out = torch.empty((len(queries), len(temperatures)), dtype=torch.float64)
    position = torch.full((len(sequences),), -1)
    for rows in _batches(sequences, tokens_at_once):
        # right padding: the output of a causal model does not depend on later tokens
        ids = pad_sequence([torch.tensor(sequences[i]) for i in rows], batch_first=True)
        position[rows] = torch.arange(len(rows))
        in_batch = (position[row] >= 0).nonzero()[:, 0]
        with torch.inference_mode():
            logits = model(ids).logits
            for part in torch.split(in_batch, max(DOUBLES_AT_ONCE // logits.shape[-1], 1)):
                after = logits[position[row[part]], length[part] - 1].double()
                out[part] = _logprobs(after, token[part], temperatures)
        position[rows] = -1
    return np.asarray(out.numpy())


def _batches(sequences: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Yields batches of indices of sequences, the shortest sequences first."""
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
    """Returns shape (tokens, temperatures) for logits of shape (tokens, vocabulary)."""
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
