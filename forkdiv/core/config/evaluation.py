"""How a model is evaluated: on which problems, with how many samples, at which k."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.core.config.base import Frozen, Problems, Samples, Seed, Share, without_defaults

# Settings that were added later: fingerprints omit them at their default, so that existing results
# are still reused.
LATER = ("tau", "thinking_end")

K = Annotated[int, Field(ge=1)]
Tau = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class EvalConfig(Frozen):
    """Evaluation: pass@k on held-out problems, estimated from samples of each."""

    split: Literal["validation", "test"] = Field(
        "test", description="Which held-out problems are used."
    )
    problems: Problems | None = Field(
        None, description="Number of held-out problems. null: the task's own number."
    )
    validation_problems: Problems | None = Field(
        None,
        description="Number of problems of the validation split on which every model is sampled "
        "as well. Each model is then also compared under the temperature and decoder that were "
        "best for it on these problems. null: none.",
    )
    samples: Samples = Field(64, le=4096, description="Samples drawn of each problem.")
    k: tuple[K, ...] = Field(
        (),
        description="The k at which pass@k is reported, each at most `samples`. Empty: 1, 2, 4 "
        "and so on, and `samples`.",
    )
    predict: tuple[K, ...] = Field(
        (),
        description="The k, beyond `samples`, at which pass@k is extrapolated. Empty: 8 and 64 "
        "times `samples`.",
    )
    tau: tuple[Tau, ...] = Field(
        (0.1, 0.25, 0.5, 0.75, 1.0),
        description="The shares of right samples at which Cover@τ is reported: the share of "
        "problems of which at least this share of the samples is right. G-Pass@k is reported at "
        "those of at least 0.5.",
    )
    enough: Samples | None = Field(
        None,
        description="If a problem has this many correct samples, no more are drawn for it "
        "(adaptive sampling). pass@k stays unbiased; results that need the same number of samples "
        "for every problem are left out. null: `samples` are drawn for every problem.",
    )
    first: Samples = Field(
        8,
        description="With `enough`: number of samples of each problem in the first round. Each "
        "further round doubles the number, up to `samples`.",
    )
    seed: Seed = Field(0, description="Seed of the samples and of the bootstrap.")
    bootstrap: int = Field(
        2000, ge=100, le=100_000, description="Number of bootstrap resamples for confidence limits."
    )
    confidence: Share = Field(
        0.95, gt=0.5, lt=1, description="Confidence level of all limits in results."
    )

    thinking_end: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="The text that ends a response's thinking: graders read what follows it. null: "
        "</think> or another known tag, if the chat template, the vocabulary or the data has it.",
    )

    @model_validator(mode="after")
    def _k_within_samples(self) -> Self:
        beyond = [k for k in self.k if k > self.samples]
        if beyond:
            raise ValueError(
                f"k={beyond[0]} needs at least that many samples, got samples={self.samples}; "
                f"allowed: k up to eval.samples; raise eval.samples or remove this k"
            )
        return self

    @property
    def ks(self) -> tuple[int, ...]:
        """The k at which pass@k is reported, in order."""
        if self.k:
            return tuple(sorted(set(self.k)))
        powers = (2**i for i in range(self.samples.bit_length()))
        return tuple(sorted({*powers, self.samples}))

    @property
    def taus(self) -> tuple[float, ...]:
        """The shares of right samples at which Cover@tau is reported, in order."""
        return tuple(sorted(set(self.tau)))

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, plain(self), LATER)

    @property
    def predicted(self) -> tuple[int, ...]:
        """The k at which pass@k is extrapolated, in order."""
        return tuple(sorted(set(self.predict))) or (8 * self.samples, 64 * self.samples)
