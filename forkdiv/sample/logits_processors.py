"""Decoders that vLLM does not have, as a logits processor for the interface of vLLM 0.29.

vLLM imports this module in its engine's process and applies the processor to raw logits, before the
temperature. The arguments of a request are in its `SamplingParams.extra_args`:

- `top_n_sigma`: keep the logits within this many standard deviations of the largest;
- `gate_entropy` and `cold_temperature`: where the entropy is below `gate_entropy` (nats), sample at
  the cold temperature, otherwise at the request's temperature;
- `first_tokens` K, `first_index` and `first_seed`: sample i of the request starts with the model's
  token of rank (first_index + i) mod K. vLLM draws sample i with the seed first_seed + i, from
  which the processor computes i.

`forkdiv.models.decoding` implements the same decoders in numpy. This module must not import Ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

# groups of arguments that must be set together
ARGUMENTS = (
    ("top_n_sigma",),
    ("gate_entropy", "cold_temperature"),
    ("first_tokens", "first_index", "first_seed"),
)


@dataclass(frozen=True)
class _Row:
    """The decoder settings of one row of the batch; None where a decoder is off."""

    sigma: float | None
    gate: tuple[float, float] | None  # entropy, factor of the logits below it
    first: int | None  # rank of the first token
    output: list[int]  # vLLM's list of generated tokens, which grows


class DecoderProcessor(LogitsProcessor):  # type: ignore[misc]  # mypy does not read vLLM's types
    """Processes all rows of the batch at once; rows without arguments are not changed."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raises ValueError for unknown arguments, wrong types and values out of range. vLLM then
        rejects the request with that message."""
        arguments = sampling_params.extra_args or {}
        known = [name for group in ARGUMENTS for name in group]
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise ValueError(
                f"unknown decoder argument {unknown[0]}, got {arguments[unknown[0]]!r}; allowed: "
                f"{', '.join(known)}; correct extra_args"
            )
        for group in ARGUMENTS:
            missing = [name for name in group if name not in arguments]
            if 0 < len(missing) < len(group):
                raise ValueError(
                    f"the decoder arguments {', '.join(group)} must be set together: "
                    f"{missing[0]} is missing; add it to extra_args"
                )
        _check_numbers(arguments)
        if "gate_entropy" in arguments and sampling_params.temperature < 0.01:
            raise ValueError(
                f"gate_entropy needs a temperature to sample at above the gate: got "
                f"{sampling_params.temperature}; allowed: at least 0.01; set temperature"
            )
        if "first_tokens" in arguments and sampling_params.seed is None:
            raise ValueError("first_tokens needs a seed: got none; allowed: an integer; set seed")

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, _Row] = {}
        self._sigma_rows, self._gate_rows = _no_rows(device), _no_rows(device)
        self._sigma, self._entropy, self._scale = (torch.empty((0, 1), device=device),) * 3

    def is_argmax_invariant(self) -> bool:
        """False: a forced first token is usually not the most likely token. False also makes vLLM
        apply the processor before the temperature, to raw logits."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if process_dict_updates(self._rows, batch_update, _row):
            self._gather()

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if not self._rows:
            return logits
        forced = self._forced(logits)
        # before top_n_sigma: the gate uses the entropy of the model's full distribution
        cold = _entropy(logits[self._gate_rows]) < self._entropy if len(self._gate_rows) else None
        if len(self._sigma_rows):
            rows = logits[self._sigma_rows]
            least = rows.amax(-1, keepdim=True) - self._sigma * rows.std(-1, False, keepdim=True)
            logits[self._sigma_rows] = rows.masked_fill(rows < least, -math.inf)
        if cold is not None:
            rows = logits[self._gate_rows]
            # an infinite scale is temperature 0: all logits but the largest become -inf
            below = rows - rows.amax(-1, keepdim=True)
            scaled = torch.where(below < 0, below * self._scale, below)
            logits[self._gate_rows] = torch.where(cold, scaled, rows)
        for row, token in forced.items():
            logits[row] = -math.inf
            logits[row, token] = 0.0
        return logits

    def _forced(self, logits: torch.Tensor) -> dict[int, int]:
        """Returns the token to force in each row without output, by its rank in the raw logits."""
        starting = {
            row: settings.first
            for row, settings in self._rows.items()
            if settings.first is not None and not settings.output
        }
        if not starting:
            return {}
        rows = torch.tensor(list(starting), device=self._device)
        # stable: of equal logits the smaller id is first, so that the batch has no effect
        ranked = torch.sort(logits[rows], dim=-1, descending=True, stable=True).indices
        ranks = torch.tensor(list(starting.values()), device=self._device)
        tokens = ranked.gather(-1, ranks.unsqueeze(-1)).squeeze(-1).tolist()
        return dict(zip(starting, tokens, strict=True))

    def _gather(self) -> None:
        rows = self._rows.items()
        sigma = {row: settings.sigma for row, settings in rows if settings.sigma is not None}
        gate = {row: settings.gate for row, settings in rows if settings.gate is not None}
        self._sigma_rows = torch.tensor(list(sigma), dtype=torch.long, device=self._device)
        self._gate_rows = torch.tensor(list(gate), dtype=torch.long, device=self._device)
        self._sigma = self._column(list(sigma.values()))
        self._entropy = self._column([entropy for entropy, _ in gate.values()])
        self._scale = self._column([scale for _, scale in gate.values()])

    def _column(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device).unsqueeze(-1)


def _row(params: SamplingParams, prompt: list[int] | None, output: list[int]) -> _Row | None:
    arguments = params.extra_args or {}
    if not arguments:
        return None
    gate = first = None
    if "gate_entropy" in arguments:
        cold = arguments["cold_temperature"]
        gate = (arguments["gate_entropy"], params.temperature / cold if cold else math.inf)
    if "first_tokens" in arguments:
        assert params.seed is not None
        index = arguments["first_index"] + params.seed - arguments["first_seed"]
        first = index % arguments["first_tokens"]
    return _Row(arguments.get("top_n_sigma"), gate, first, output)


def _check_numbers(arguments: Mapping[str, Any]) -> None:
    integers = ("first_tokens", "first_index", "first_seed")
    least = {"top_n_sigma": 0, "gate_entropy": 0, "cold_temperature": 0} | {
        "first_tokens": 2,
        "first_index": 0,
        "first_seed": 0,
    }
    for name, value in arguments.items():
        kinds = (int,) if name in integers else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < least[name]:
            raise ValueError(
                f"decoder argument {name} is out of range: got {value!r}; allowed: "
                f"{'an integer' if name in integers else 'a number'} of at least {least[name]}; "
                "correct extra_args"
            )


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Returns the entropy in nats (rows, 1) of logits (rows, vocabulary)."""
    log_p = torch.log_softmax(logits, dim=-1)
    parts: torch.Tensor = torch.special.entr(log_p.exp())
    return parts.sum(-1, keepdim=True)


def _no_rows(device: torch.device) -> torch.Tensor:
    return torch.empty((0,), dtype=torch.long, device=device)
