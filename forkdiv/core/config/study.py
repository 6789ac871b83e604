"""`StudyConfig`: everything that any verb needs, one section a stage.

What decides a result (everything but `PlaceConfig` and `PlanConfig`) is identity and is
fingerprinted; where it runs is `PlaceConfig` and never is. The sections stand in the modules
beside this one, and are imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from forkdiv.core.config.base import AbsolutePath, Frozen, Name, Share
from forkdiv.core.config.data import DATA_AXES, AuditConfig, DatasetConfig, SynthesisConfig
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.config.place import EngineConfig, HttpConfig, PlaceConfig, PlanConfig
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.sft import LoraConfig, PretrainConfig, SftConfig
from forkdiv.core.config.shipped import DEFAULT_BASE, CheckpointPath
from forkdiv.core.config.sweep import AXES, TUNING_AXES, SweepConfig
from forkdiv.core.config.tasks import AnyTask, default_task

__all__ = [
    "AXES",
    "DATA_AXES",
    "RESERVED_NAMES",
    "TUNING_AXES",
    "AuditConfig",
    "DatasetConfig",
    "DecoderConfig",
    "EngineConfig",
    "EvalConfig",
    "HttpConfig",
    "LoraConfig",
    "PlaceConfig",
    "PlanConfig",
    "PretrainConfig",
    "PromptConfig",
    "SftConfig",
    "StudyConfig",
    "SweepConfig",
    "SynthesisConfig",
]

RESERVED_NAMES = ("store", "tune", "mlartifacts")  # folders under place.root


class StudyConfig(Frozen):
    """One study. Each verb reads its part of the settings."""

    name: Name = Field(
        "study", description="Name of the study, and of its folder of results in place.root."
    )
    task: AnyTask = Field(
        default_factory=default_task,
        description="What is asked and how answers are graded; `task.kind` chooses the task.",
    )
    prompt: PromptConfig = Field(
        PromptConfig(), description="How a problem becomes the text that a model reads."
    )
    base: CheckpointPath | None = Field(
        Path(DEFAULT_BASE),
        validate_default=True,
        description="The model before fine-tuning: the name of a shipped base, or a Hugging Face "
        "folder (relative to the current folder). null: the base that `pretrain` describes, "
        "built at the first use.",
    )
    checkpoint: CheckpointPath | None = Field(
        None,
        description="A fine-tuned model to sample, evaluate, compare, export or interpolate, in "
        "place of training one: a Hugging Face folder, or a run's folder of checkpoints.",
    )
    data: AbsolutePath | None = Field(
        None,
        description="A file of your own or a dataset folder of forkdiv's, to audit, to add "
        "solutions to or to compare on, in place of the data that `dataset` describes.",
    )
    pretrain: PretrainConfig = Field(
        PretrainConfig(), description="The base model that base=null builds."
    )
    dataset: DatasetConfig = Field(DatasetConfig(), description="The fine-tuning data.")
    synthesis: SynthesisConfig = Field(
        SynthesisConfig(), description="How missing solutions are drawn and checked."
    )
    audit: AuditConfig = Field(
        AuditConfig(), description="How the decision points of a dataset are found."
    )
    sft: SftConfig = Field(SftConfig(), description="Supervised fine-tuning.")
    interpolation: Share = Field(
        1.0,
        description="Place of the measured model between the base (0) and the fine-tuned model "
        "(1): their weights are interpolated (WiSE-FT).",
    )
    decoder: DecoderConfig = Field(DecoderConfig(), description="How responses are sampled.")
    decoders: dict[Name, DecoderConfig] = Field(
        default_factory=dict,
        description="Decoders by name, for sweep.decoder. Each has the settings of `decoder`, and "
        "takes dtype and max_new_tokens from it where it does not set them.",
    )
    eval: EvalConfig = Field(
        EvalConfig(), description="On which problems, and with how many samples."
    )
    sweep: SweepConfig = Field(SweepConfig(), description="Which settings vary.")
    plan: PlanConfig = Field(PlanConfig(), description="What `forkdiv plan` assumes.")
    place: PlaceConfig = Field(PlaceConfig(), description="Where it runs.")

    @property
    def folder(self) -> Path:
        """Where the study's results lie for people: a view of what is in the store."""
        return self.place.root / self.name

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name={self.name} is a folder of forkdiv's own; allowed: any but "
                f"{', '.join(RESERVED_NAMES)}; choose another name"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _decoders_share_dtype_and_length(cls, data: Any) -> Any:
        named = data.get("decoders") if isinstance(data, Mapping) else None
        own = data.get("decoder") if isinstance(data, Mapping) else None
        if not isinstance(named, Mapping) or not isinstance(own, Mapping):
            return data
        shared = {key: own[key] for key in ("max_new_tokens", "dtype") if key in own}
        filled = {
            name: {**shared, **one} if isinstance(one, Mapping) else one
            for name, one in named.items()
        }
        return {**data, "decoders": filled}

    @model_validator(mode="after")
    def _decoders_can_be_measured(self) -> Self:
        unknown = [name for name in self.sweep.decoder if name not in self.decoders]
        if unknown:
            raise ValueError(
                f"sweep.decoder names {unknown[0]}; allowed: {', '.join(self.decoders) or 'none'}, "
                "as decoders has them; define it there"
            )
        for name, one in self.swept_decoders.items():
            where = f"decoders.{name}" if name else "decoder"
            if one.dtype != self.decoder.dtype:
                raise ValueError(
                    f"{where}.dtype={one.dtype} is another than decoder's; allowed: "
                    f"{self.decoder.dtype}, since one engine draws all; drop it"
                )
            if self.eval.enough and one.design != "independent":
                raise ValueError(
                    f"eval.enough={self.eval.enough} does not fit {where}, whose samples hang "
                    "together; allowed: decoders that draw each sample by itself; drop eval.enough"
                )
            if self.eval.samples % one.unit or self.eval.samples < one.first_tokens:
                raise ValueError(
                    f"eval.samples={self.eval.samples} does not fit {where}; allowed: whole trees "
                    f"of {one.unit}, and at least {one.first_tokens} samples; correct one of them"
                )
            for temperature in self.sweep.temperature:
                one.at(temperature)
        return self

    @property
    def swept_decoders(self) -> dict[str | None, DecoderConfig]:
        """Those of the sweep by name, or the study's own one under None."""
        named: dict[str | None, DecoderConfig] = {
            name: self.decoders[name] for name in self.sweep.decoder
        }
        return named or {None: self.decoder}

    @model_validator(mode="after")
    def _workers_divide_batches(self) -> Self:
        for where, sft in (("sft", self.sft), ("pretrain.sft", self.pretrain.sft)):
            if sft.batch_size % self.place.workers:
                raise ValueError(
                    f"{where}.batch_size={sft.batch_size} does not divide over "
                    f"place.workers={self.place.workers}; allowed: a multiple of the workers"
                )
        return self
