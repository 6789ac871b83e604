"""The settings of a decoder, which say how responses are sampled; part of fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from forkdiv.core.config.base import (
    Frozen,
    Nats,
    Probability,
    Temperature,
    Tokens,
    Unit,
    without_defaults,
)

# Settings that were added later: fingerprints omit them at their default, so that existing samples
# are still reused.
LATER = (
    "min_p",
    "top_n_sigma",
    "gate_entropy",
    "hot_temperature",
    "first_tokens",
    "tree_samples",
    "fork_entropy",
    "branch_probability",
    "stop",
)


Text = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True)
class Knob:
    """How other tools call a setting of the decoder: part of its field's type, so that requests to
    vLLM and comparisons of two models' samples are derived from the fields.

    `vllm` is the argument of vLLM's SamplingParams, if there is one, and `vllm_off` its value for
    a setting of 0; `lm_eval` is the generation argument of lm-evaluation-harness. `shapes` is True
    if the setting changes the distribution of the next token or which samples are drawn.
    forkdiv.models.decoding has the reference implementation of each.
    """

    vllm: str | None = None
    vllm_off: float | None = None
    lm_eval: str | None = None
    shapes: bool = True


class DecoderConfig(Frozen):
    """How responses are sampled. The defaults leave the model's distribution as it is."""

    temperature: Annotated[Temperature, Knob(vllm="temperature")] = Field(
        1.0, description="Sampling temperature. 0: greedy, always the most likely token."
    )
    top_p: Annotated[float, Knob(vllm="top_p")] = Field(
        1.0,
        gt=0,
        le=1,
        description="Nucleus sampling: keep the most likely tokens that together have this "
        "probability. 1: all.",
    )
    top_k: Annotated[int, Knob(vllm="top_k", vllm_off=-1)] = Field(
        0, ge=0, description="Keep this many of the most likely tokens. 0: all."
    )
    min_p: Annotated[float, Knob(vllm="min_p")] = Field(
        0.0,
        ge=0,
        le=1,
        description="Keep the tokens whose probability is at least this share of the highest "
        "token probability. 0: all.",
    )
    top_n_sigma: Annotated[float | None, Knob()] = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Keep the tokens whose logit is within this many standard deviations of the "
        "largest logit (arXiv 2411.07641). null: all.",
    )
    gate_entropy: Annotated[Nats | None, Knob()] = Field(
        None,
        ge=0,
        description="Entropy gate: if the model's next-token entropy (before temperature and "
        "truncation) is at least this, `hot_temperature` is used instead of `temperature`. null: "
        "no gate.",
    )
    hot_temperature: Annotated[Temperature | None, Knob()] = Field(
        None, description="Temperature at and above the entropy gate; set it with gate_entropy."
    )
    first_tokens: Annotated[int, Knob()] = Field(
        0,
        ge=0,
        le=4096,
        description="K: sample i starts with a forced first token, the (i mod K)-th most likely "
        "one (0 is the most likely). So the samples cover K different beginnings equally. 0: off.",
    )
    tree_samples: Annotated[int, Unit("samples"), Knob()] = Field(
        0,
        ge=0,
        le=4096,
        description="Fork-stratified sampling: samples are drawn in independent trees of this "
        "many. The first sample of a tree is an ordinary response; the others continue from the "
        "branches at its forks, distributed evenly over them. 0: off.",
    )
    fork_entropy: Annotated[Nats, Knob()] = Field(
        0.3,
        gt=0,
        description="With tree_samples: a fork is a position at which the model's next-token "
        "entropy is at least this.",
    )
    branch_probability: Annotated[Probability, Knob()] = Field(
        0.05,
        gt=0,
        lt=1,
        description="With tree_samples: the branches at a fork are the tokens with at least this "
        "probability.",
    )
    max_new_tokens: Annotated[
        Tokens, Knob(vllm="max_tokens", lm_eval="max_gen_toks", shapes=False)
    ] = Field(
        16,
        ge=1,
        description="Largest length of a response. A longer response is cut off and counts as not "
        "correct.",
    )
    stop: Annotated[tuple[Text, ...], Knob(lm_eval="until", shapes=False)] = Field(
        (),
        max_length=16,
        description="Texts that end a response, besides the model's end tokens; they are not part "
        "of it. For models that go on after their answer, such as a base model with prompt.shots.",
    )
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], Knob(shapes=False)] = Field(
        "float32",
        description="Number format of the model in sampling. If it is not set, a study with a base "
        "has that of the base's config.json.",
    )

    @model_validator(mode="after")
    def _knobs_fit_together(self) -> Self:
        if (self.gate_entropy is None) != (self.hot_temperature is None):
            raise ValueError(
                f"gate_entropy={self.gate_entropy} and hot_temperature={self.hot_temperature} "
                "must be set together; allowed: both or neither; set the other too, or remove both"
            )
        if self.hot_temperature == 0:
            raise ValueError(
                "hot_temperature=0 is greedy and has no effect; allowed: 0.01 or more; raise it"
            )
        for name in ("first_tokens", "tree_samples"):
            if getattr(self, name) == 1:
                raise ValueError(
                    f"{name}=1 has no effect; allowed: 0 (off), or 2 or more; set it to 0"
                )
        if self.first_tokens and self.tree_samples:
            raise ValueError(
                f"first_tokens={self.first_tokens} and tree_samples={self.tree_samples} cannot be "
                "combined; allowed: one of them; set the other to 0"
            )
        if self.greedy and self.design != "independent":
            raise ValueError(
                f"temperature=0 with {self.design} draws identical samples; allowed: 0.01 or "
                "more; raise decoder.temperature"
            )
        if self.stop and self.tree_samples:
            raise ValueError(
                f"stop={list(self.stop)} and tree_samples={self.tree_samples} cannot be combined, "
                "because a branch may begin within such a text; allowed: one of them; remove "
                "decoder.stop, or set tree_samples to 0"
            )
        if not self.tree_samples:
            fields = type(self).model_fields
            for name in ("fork_entropy", "branch_probability"):
                if getattr(self, name) != fields[name].default:
                    raise ValueError(
                        f"{name}={getattr(self, name)} has no effect without tree_samples; "
                        f"allowed: its default; set decoder.tree_samples too, or remove {name}"
                    )
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, plain(self), LATER)

    @property
    def truncates(self) -> bool:
        """Whether some tokens are removed from the model's distribution."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0 or self.top_n_sigma is not None

    @property
    def is_plain(self) -> bool:
        """Whether samples are independent draws from the model's distribution at a temperature."""
        return not self.truncates and self.gate_entropy is None and self.design == "independent"

    def before_stop(self, text: str) -> str:
        """Returns the text up to the first of the texts that end a response."""
        ends = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text

    @property
    def greedy(self) -> bool:
        """Whether every sample is the same, greedy response."""
        return self.temperature == 0 and self.gate_entropy is None

    @property
    def design(self) -> Literal["independent", "first_tokens", "tree_samples"]:
        """How the samples of one problem depend on each other."""
        if self.first_tokens:
            return "first_tokens"
        return "tree_samples" if self.tree_samples else "independent"

    @property
    def unit(self) -> int:
        """The number of samples that are drawn together: the size of a tree, else 1."""
        return self.tree_samples or 1

    def at(self, temperature: float) -> DecoderConfig:
        """Returns the same decoder with another temperature, validated."""
        return DecoderConfig.model_validate({**self.model_dump(), "temperature": temperature})

    def stratum(self, index: int) -> int | None:
        """Returns the stratum of sample `index`: the rank of its first token, from 0, or None."""
        return index % self.first_tokens if self.first_tokens else None

    def tree(self, index: int) -> int | None:
        """Returns the tree of sample `index`, or None."""
        return index // self.tree_samples if self.tree_samples else None


# setting -> its names in other tools
KNOBS: dict[str, Knob] = {
    name: next(entry for entry in field.metadata if isinstance(entry, Knob))
    for name, field in DecoderConfig.model_fields.items()
}


def lm_eval_name(name: str) -> str:
    """Returns lm-evaluation-harness's name of a decoder setting; forkdiv's name if it has none."""
    return KNOBS[name].lm_eval or name
