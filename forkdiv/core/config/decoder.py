"""Decoders as data: one frozen config says how a response is drawn, and is part of identity."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.core.config.base import Frozen, Temperature

# Knobs that came later: left out of identity where they are not set, so that what was drawn
# before they existed is found again.
LATER = (
    "min_p",
    "top_n_sigma",
    "gate_entropy",
    "hot_temperature",
    "first_tokens",
    "tree_samples",
    "fork_entropy",
    "branch_probability",
)


class DecoderConfig(Frozen):
    """How to sample. The defaults leave the model's distribution whole.

    `min_p` keeps the tokens of at least that share of the likeliest one's probability,
    `top_n_sigma` those whose logit is within so many standard deviations of the largest
    (arXiv 2411.07641). With `gate_entropy` the temperature is `hot_temperature` wherever the
    model's own next-token entropy is at least so many nats, and `temperature` elsewhere.
    Two designs spend the samples of a problem otherwise than independently:

    `first_tokens` K forces sample i to begin with the model's (i mod K)-th likeliest first token,
    counted from 0: K fixed strata, which the samples cycle through.

    `tree_samples` B draws the samples in independent trees of B (fork-stratified sampling):
    the first is a response like any other, and the others are spread evenly over the branches
    of the forks along it, wherever they are. A fork is a position at which the model's own
    next-token entropy is at least `fork_entropy` nats, its branches are the tokens of at least
    `branch_probability`.
    """

    temperature: Temperature = 1.0
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    top_n_sigma: float | None = Field(None, gt=0, allow_inf_nan=False)
    gate_entropy: float | None = Field(None, ge=0, allow_inf_nan=False)
    hot_temperature: Temperature | None = None
    first_tokens: int = Field(0, ge=0, le=4096)
    tree_samples: int = Field(0, ge=0, le=4096)
    fork_entropy: float = Field(0.3, gt=0, allow_inf_nan=False)
    branch_probability: float = Field(0.05, gt=0, lt=1)
    max_new_tokens: int = Field(16, ge=1)
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _knobs_fit_together(self) -> Self:
        if (self.gate_entropy is None) != (self.hot_temperature is None):
            raise ValueError(
                f"gate_entropy={self.gate_entropy} and hot_temperature={self.hot_temperature} "
                "need each other; allowed: both or neither; set the other one"
            )
        if self.hot_temperature == 0:
            raise ValueError("hot_temperature=0 samples nothing; allowed: 0.01 and more; raise it")
        for name in ("first_tokens", "tree_samples"):
            if getattr(self, name) == 1:
                raise ValueError(f"{name}=1 is no choice; allowed: 0 (off), or 2 and more; set 0")
        if self.first_tokens and self.tree_samples:
            raise ValueError(
                f"first_tokens={self.first_tokens} and tree_samples={self.tree_samples} are two "
                "designs; allowed: one of them; set the other to 0"
            )
        if self.greedy and self.design != "independent":
            raise ValueError(
                f"temperature=0 with {self.design} gives the same samples again; allowed: 0.01 "
                "and more; raise decoder.temperature"
            )
        if not self.tree_samples:
            fields = type(self).model_fields
            for name in ("fork_entropy", "branch_probability"):
                if getattr(self, name) != fields[name].default:
                    raise ValueError(
                        f"{name}={getattr(self, name)} is read with tree_samples only; allowed: "
                        f"its default; set decoder.tree_samples too, or drop {name}"
                    )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields, found = type(self).model_fields, plain(self)
        return {
            name: value
            for name, value in found.items()
            if name not in LATER or value != fields[name].default
        }

    @property
    def truncates(self) -> bool:
        """Whether tokens are cut from the model's distribution."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0 or self.top_n_sigma is not None

    @property
    def is_plain(self) -> bool:
        """Whether it is the model's distribution at a temperature, sample by sample."""
        return not self.truncates and self.gate_entropy is None and self.design == "independent"

    @property
    def greedy(self) -> bool:
        """Whether every sample is the one likeliest response."""
        return self.temperature == 0 and self.gate_entropy is None

    @property
    def design(self) -> Literal["independent", "first_tokens", "tree_samples"]:
        """How the samples of one problem hang together."""
        if self.first_tokens:
            return "first_tokens"
        return "tree_samples" if self.tree_samples else "independent"

    @property
    def unit(self) -> int:
        """How many samples are drawn as one whole."""
        return self.tree_samples or 1

    def at(self, temperature: float) -> DecoderConfig:
        """The same decoder at another temperature, checked."""
        return DecoderConfig.model_validate({**self.model_dump(), "temperature": temperature})

    def stratum(self, index: int) -> int | None:
        """The fixed stratum of sample `index`: the rank of its first token, counted from 0."""
        return index % self.first_tokens if self.first_tokens else None

    def tree(self, index: int) -> int | None:
        """The tree of sample `index`."""
        return index // self.tree_samples if self.tree_samples else None
