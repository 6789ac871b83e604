"""`StudyConfig`: the settings of all commands, with one section per stage.

Everything except `PlaceConfig`, `PlanConfig` and `PowerConfig` decides results and is part of
fingerprints; `PlaceConfig` says where the work runs and never is. The sections are defined in the
neighbouring modules and imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from forkdiv.core.config.base import AxisWords, DataPath, Frozen, Name, Share
from forkdiv.core.config.data import DATA_AXES, AuditConfig, DatasetConfig, SynthesisConfig
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.config.learnability import LearnabilityConfig
from forkdiv.core.config.place import EngineConfig, HttpConfig, PlaceConfig, PlanConfig
from forkdiv.core.config.power import PowerConfig
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.read_axes import read_axes
from forkdiv.core.config.sft import FORK_AWARE, LoraConfig, PretrainConfig, SftConfig
from forkdiv.core.config.shipped import DEFAULT_BASE, CheckpointPath
from forkdiv.core.config.sweep import AXES, TUNING_AXES, SweepConfig
from forkdiv.core.config.tasks import (
    KINDS,
    AnyTask,
    TaskConfig,
    config_class,
    default_task,
    kind_of,
)
from forkdiv.core.config.watch import WatchConfig
from forkdiv.core.hub_names import Source

__all__ = [
    "AXES",
    "DATA_AXES",
    "NOT_IDENTITY",
    "RESERVED_NAMES",
    "TUNING_AXES",
    "WHICH_CHECKPOINTS",
    "AuditConfig",
    "DatasetConfig",
    "DecoderConfig",
    "EngineConfig",
    "EvalConfig",
    "HttpConfig",
    "LearnabilityConfig",
    "LoraConfig",
    "PlaceConfig",
    "PlanConfig",
    "PowerConfig",
    "PretrainConfig",
    "PromptConfig",
    "SftConfig",
    "StudyConfig",
    "SweepConfig",
    "SynthesisConfig",
    "WatchConfig",
]

# What forkdiv, Ray Tune and MLflow keep under place.root. SQLite adds files beside its database.
RESERVED_NAMES = (
    "store",
    "cache",
    "tune",
    "mlartifacts",
    "mlflow.db",
    "mlflow.db-journal",
    "mlflow.db-wal",
    "mlflow.db-shm",
    "mlflow.lock",
)

# Settings that name checkpoints, whose content is part of results in their place.
WHICH_CHECKPOINTS = frozenset({"checkpoint", "checkpoint_pattern", "adapter_base", "watch"})
# Settings that are not part of the identity of a study's results.
NOT_IDENTITY = frozenset({"name", "place", "base", "pretrain", "audit", "data", "plan", "power"})
NOT_IDENTITY |= WHICH_CHECKPOINTS


class StudyConfig(Frozen):
    """One study. Each verb reads its part of the settings."""

    name: Name = Field(
        "study", description="Name of the study, and of the folder of its results in place.root."
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
        "folder (a relative path starts at the current folder). null: the base that `pretrain` "
        "describes, built at its first use. Or the name of a model on the Hugging Face Hub, "
        "org/name or org/name@revision; a folder of that name on this machine is used instead.",
    )
    checkpoint: CheckpointPath | None = Field(
        None,
        description="A fine-tuned model to sample, evaluate, compare, export or interpolate, "
        "instead of training one: a Hugging Face folder, the folder of a LoRA adapter that PEFT "
        "saved, a run folder with several checkpoints, or the name of a model on the Hugging Face "
        "Hub, as in `base`.",
    )
    checkpoint_pattern: str | None = Field(
        None,
        description="Which checkpoints of a run folder are measured: a pattern of their names, "
        "such as step-* or checkpoint-[1-4]00. null: all that have a name which forkdiv knows.",
    )
    adapter_base: CheckpointPath | None = Field(
        None,
        description="The model that a LoRA adapter was trained on: a Hugging Face folder, or the "
        "name of a model on the Hugging Face Hub, as in `base`. null: the one that its "
        "adapter_config.json names, or base if that cannot be had.",
    )
    data: DataPath | None = Field(
        None,
        description="Your own data file, or a dataset folder that forkdiv wrote. Used by audit, "
        "synthesize, compare and export instead of the data that `task` and `dataset` describe. Or "
        "the name of a dataset on the Hugging Face Hub, as in task.train.",
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
    learnability: LearnabilityConfig = Field(
        LearnabilityConfig(),
        description="Which tokens of the data can be learned as a rule; used by "
        "`forkdiv learnability` and by sft.loss=fork-aware.",
    )
    interpolation: Annotated[
        Share,
        AxisWords(
            short="alpha",
            meaning="is the position of the weights between the base (0) and the tuned model (1)",
        ),
    ] = Field(
        1.0,
        description="The measured model is an average of the weights of the base (0) and of the "
        "fine-tuned model (1), WiSE-FT; this is the share of the fine-tuned model.",
    )
    decoder: DecoderConfig = Field(DecoderConfig(), description="How responses are sampled.")
    decoders: dict[Name, DecoderConfig] = Field(
        default_factory=dict,
        description="Decoders by name, for sweep.decoder. Each has the settings of `decoder`; "
        "dtype, max_new_tokens and stop are taken from `decoder` if they are not set here.",
    )
    eval: EvalConfig = Field(
        EvalConfig(), description="On which problems, and with how many samples."
    )
    sweep: SweepConfig = Field(SweepConfig(), description="Which settings vary.")
    watch: WatchConfig = Field(
        WatchConfig(), description="How a run that is still training is followed."
    )
    plan: PlanConfig = Field(PlanConfig(), description="What `forkdiv plan` assumes.")
    power: PowerConfig = Field(
        PowerConfig(), description="What `forkdiv power` assumes and compares."
    )
    place: PlaceConfig = Field(PlaceConfig(), description="Where it runs.")

    # where the files came from that the command line put in the place of names on the hub
    _sources: tuple[Source, ...] = PrivateAttr(())

    @property
    def sources(self) -> tuple[Source, ...]:
        """The names on the Hugging Face Hub that the settings had, with their commits. They are
        written into records; the content of the files decides results."""
        return self._sources

    def with_sources(self, update: Mapping[str, Any], sources: Sequence[Source]) -> StudyConfig:
        """Returns the study with other settings, and with further sources."""
        study = self.model_copy(update=update)
        study._sources = (*self._sources, *sources)
        return study

    @property
    def reads_table(self) -> bool:
        """Whether a model of the study is trained with a learnability table."""
        varied = self.sweep.by_path.get("sft.loss", ())
        return FORK_AWARE in (self.sft.loss, *(varied if isinstance(varied, tuple) else ()))

    @property
    def folder(self) -> Path:
        """The folder of the study's results for users: a view of what is in the store."""
        return self.place.root / self.name

    @model_validator(mode="before")
    @classmethod
    def _axes_fit_their_settings(cls, data: Any) -> Any:
        sweep = data.get("sweep") if isinstance(data, Mapping) else None
        if not isinstance(sweep, Mapping):
            return data
        task = data.get("task")
        settings = task if isinstance(task, Mapping) else {}
        kind = task.kind if isinstance(task, TaskConfig) else kind_of(settings)
        if kind not in KINDS.names() or not isinstance(sweep.get("axes") or {}, Mapping):
            return data  # refused with its own message
        return {**data, "sweep": read_axes(sweep, cls, config_class(kind))}

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name.lower() in RESERVED_NAMES:  # some file systems do not tell Store from store
            raise ValueError(
                f"name={self.name} is reserved for a file or folder of forkdiv; allowed: "
                f"any name except {', '.join(RESERVED_NAMES)}; choose another name"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _decoders_share_settings(cls, data: Any) -> Any:
        named = data.get("decoders") if isinstance(data, Mapping) else None
        default = data.get("decoder") if isinstance(data, Mapping) else None
        if not isinstance(named, Mapping) or not isinstance(default, Mapping):
            return data
        shared = {
            key: default[key] for key in ("max_new_tokens", "dtype", "stop") if key in default
        }
        filled = {
            name: {**shared, **settings} if isinstance(settings, Mapping) else settings
            for name, settings in named.items()
        }
        return {**data, "decoders": filled}

    @model_validator(mode="after")
    def _decoders_can_be_measured(self) -> Self:
        unknown = [name for name in self.sweep.decoder if name not in self.decoders]
        if unknown:
            raise ValueError(
                f"sweep.decoder has an unknown name: got {unknown[0]}; allowed: "
                f"{', '.join(self.decoders) or 'none'} (the names under decoders); define it there"
            )
        for name, decoder in self.swept_decoders.items():
            where = f"decoders.{name}" if name else "decoder"
            if decoder.dtype != self.decoder.dtype:
                raise ValueError(
                    f"{where}.dtype differs from decoder.dtype: got {decoder.dtype}; allowed: "
                    f"{self.decoder.dtype}, because one engine samples all decoders; remove "
                    f"{where}.dtype"
                )
            if self.eval.enough and decoder.design != "independent":
                raise ValueError(
                    f"eval.enough={self.eval.enough} cannot be used with {where}: got samples that "
                    f"depend on each other ({decoder.design}); allowed: decoders with independent "
                    "samples; remove eval.enough"
                )
            if self.eval.samples % decoder.unit or self.eval.samples < decoder.first_tokens:
                least = max(decoder.first_tokens, decoder.unit)
                raise ValueError(
                    f"eval.samples={self.eval.samples} does not fit {where}; allowed: a multiple "
                    f"of {decoder.unit}, at least {least}; correct eval.samples or {where}"
                )
            for temperature in self.sweep.temperature:
                decoder.at(temperature)
        return self

    @property
    def swept_decoders(self) -> dict[str | None, DecoderConfig]:
        """The decoders of the sweep by name; without a sweep, the study's decoder under None."""
        named: dict[str | None, DecoderConfig] = {
            name: self.decoders[name] for name in self.sweep.decoder
        }
        return named or {None: self.decoder}

    @model_validator(mode="after")
    def _workers_divide_batches(self) -> Self:
        for where, sft in (("sft", self.sft), ("pretrain.sft", self.pretrain.sft)):
            if sft.batch_size % self.place.workers:
                raise ValueError(
                    f"{where}.batch_size is not a multiple of the number of workers: got "
                    f"{sft.batch_size}; allowed: multiples of place.workers={self.place.workers}; "
                    f"change {where}.batch_size or place.workers"
                )
        return self
