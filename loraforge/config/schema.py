# SPDX-License-Identifier: Apache-2.0
"""The keys of every run; how the keys of all owners are declared and validated is in ``keys``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from ..messages import speaker
from .block_ranks import parse_block_rank
from .keys import Keys, KeySet, NoKeys, fields, validate
from .optimizers import arguments, profiles
from .other_trainers.names import OPTIMIZER_NAMES, SCHEDULES
from .other_trainers.refused import ALPHA, NO_SCHEDULES, OPTIMIZERS, PRECISIONS, RATES, SAVES, SEEDS, VARIANTS
from .paths import resolve_path
from .yaml_reader import Source, unwritable

__all__ = ["KeySet", "Keys", "NoKeys", "RunConfig", "fields", "resolve_base", "validate"]

say = speaker(__name__)


class RunConfig(Keys):
    """The keys of every run. Their order here is their order in the documentation."""

    train_data_dir: str = Field(description="The folder with the examples.", json_schema_extra={"path": "input"})
    metadata_path: str | None = Field(
        None,
        description="The file that lists the examples; by default the data files in train_data_dir.",
        json_schema_extra={"path": "input"},
    )
    base_model: str = Field(
        description="What is adapted: the name of an embedded model, a folder, a Hugging Face id (org/name), or modelscope:org/name.",
        json_schema_extra={
            "aliases": ["pretrained_model_name_or_path", "pretrained_model", "model_name_or_path", "model_name", "base_model_name_or_path"],
            "path": "base",
        },
    )
    revision: str | None = Field(
        None,
        description="The branch, tag or commit of a base model from a hub.",
        json_schema_extra={"aliases": ["model_revision", "revision_of_model"]},
    )
    task_type: str | None = Field(None, description="Optional; must agree with the command (text-generation means text).")
    output_dir: str = Field("./output/run", description="The run's folder: checkpoints, log, adapter, exports.")

    lora_rank: int = Field(
        16,
        ge=1,
        le=512,
        description="The rank of the adapter: how much it can hold.",
        json_schema_extra={
            "aliases": {"network_dim": {"assumes": {"lora_alpha": 1}}, "lora_r": {}, "r": {"assumes": {"lora_alpha": 8}}},
            "usual": [8, 16],
            "why": "16 suits medicine and law, 8 fixed formats; more rank on few rows over-fits",
        },
    )
    lora_alpha: int | None = Field(
        None,
        ge=1,
        description="The scale is lora_alpha / lora_rank; by default twice the rank.",
        json_schema_extra={"aliases": ["network_alpha"], "refused": ALPHA},
    )
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="The share of the adapter's input that is dropped in training.")
    lora_target: str | list[str] = Field(
        "all-linear",
        description="Where the adapter sits: 'q,v', 'attention', 'all-linear', module names, or a regular expression for module paths.",
        json_schema_extra={
            "aliases": {"lora_target_modules": {}, "target_modules": {}, "lora_target_linear": {"true": "all-linear", "false": None}}
        },
    )
    block_ranks: list[str] = Field(
        [],
        description="Other ranks for parts of the base, each as part=rank: [down_blocks.2=16, mid_block=32, layers.0-15=8, attn2=0]. 0 "
        "leaves the part out; where several fit, the last holds.",
    )
    lora_variant: Literal["lora", "rslora", "dora", "pissa", "lokr", "loha"] = Field(
        "lora",
        description="The kind of adapter: lora and its relatives, or LyCORIS' lokr and loha.",
        json_schema_extra={
            "aliases": {
                **{name: {"lokr": "lokr", "loha": "loha", "locon": None, "lora": None} for name in ("lycoris_algo", "algo", "peft_type")},
                **{name: {"true": "rslora", "false": None} for name in ("use_rslora", "peft_use_rslora")},
                **{name: {"true": "dora", "false": None} for name in ("use_dora", "peft_use_dora")},
                "pissa_init": {"true": "pissa", "false": None},
            },
            "refused": VARIANTS,
        },
    )
    lokr_factor: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="LoKr splits both sides of a weight, by this number where it divides them; by default near the square root. The "
        "higher, the smaller the file.",
        json_schema_extra={"aliases": ["factor"], "values": {"-1": None}},
    )
    lokr_decompose_both: bool = Field(
        False,
        description="LoKr: the first factor in two matrices too, where that is smaller.",
        json_schema_extra={"aliases": ["decompose_both"]},
    )
    init_from_adapter: str | None = Field(
        None,
        description="A run or an adapter to continue from, with new data: an adapter folder; for pictures also a LoRA file of any program.",
        json_schema_extra={"aliases": ["adapter_name_or_path", "lora_model_dir", "network_weights"], "path": "input"},
    )

    batch_size: int = Field(
        4,
        ge=1,
        description="examples per forward pass and device",
        json_schema_extra={
            "aliases": ["train_batch_size", "per_device_train_batch_size", "micro_batch_size"],
            "usual": [1, 8],
            "why": "with a few hundred rows larger batches leave too few steps",
        },
    )
    gradient_accumulation: int = Field(
        1,
        ge=1,
        description="Forward passes per optimizer step: the same result with less memory.",
        json_schema_extra={"aliases": ["gradient_accumulation_steps"]},
    )
    epochs: float = Field(
        10,
        gt=0,
        le=10000,
        description="Passes over the examples.",
        json_schema_extra={"aliases": ["max_train_epochs", "max_train_epoches", "num_train_epochs", "num_epochs"]},
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        description="Stop after this many optimizer steps, where epochs would go on.",
        json_schema_extra={"aliases": {"max_train_steps": {"alone": "epochs"}}, "values": {"-1": None}},
    )
    learning_rate: float = Field(
        2e-4,
        gt=0,
        le=1,
        description="The step size at its peak: at the end of the warm-up. Without one, a rate that falls begins just below it. By default "
        "what suits the optimizer: 1 for prodigy, 5e-5 for lion, 1e-4 for came.",
        json_schema_extra={
            "aliases": ["lr", "unet_lr"],
            "usual": [1e-4, 3e-4],
            "why": "start at 2e-4; loss falling too slowly: 3e-4, oscillating: 1e-4; very small bases need much more",
            "refused": RATES,
        },
    )
    lora_plus_ratio: float = Field(
        1.0,
        ge=1,
        le=1000,
        description="LoRA+: B learns at so many times the rate of A, which is learning_rate. 16 is usual, with half of the usual rate; "
        "1 is off.",
        json_schema_extra={"aliases": ["loraplus_lr_ratio", "loraplus_ratio"]},
    )
    lr_scheduler: Literal[
        "cosine", "linear", "constant", "constant_with_warmup", "cosine_with_restarts", "polynomial", "warmup_stable_decay", "rex"
    ] = Field(
        "cosine",
        description="How the learning rate moves after the warm-up. schedule_free takes none: constant.",
        json_schema_extra={"aliases": ["lr_scheduler_type"], "values": SCHEDULES, "refused": NO_SCHEDULES},
    )
    lr_scheduler_cycles: int = Field(
        1,
        ge=1,
        le=1000,
        description="cosine_with_restarts: how often the rate falls, each time from its peak.",
        json_schema_extra={"aliases": ["lr_scheduler_num_cycles", "lr_restart_cycles"]},
    )
    lr_scheduler_power: float = Field(
        1.0, gt=0, le=100, description="polynomial: the power of what is left of the steps; 1 is linear, 2 falls faster at first."
    )
    lr_scheduler_decay: float = Field(
        0.2,
        gt=0,
        description="warmup_stable_decay: the steps at the end in which the rate falls: a share of all if below 1, otherwise a number of "
        "steps.",
        json_schema_extra={"aliases": ["lr_decay_steps"]},
    )
    warmup: float = Field(
        0.03,
        ge=0,
        description="Steps until the full rate: a share of all steps if below 1, otherwise a number of steps. prodigy has none by default.",
        json_schema_extra={"aliases": {"lr_warmup_steps": {}, "warmup_steps": {}, "warmup_ratio": {"below": 1}}},
    )
    optimizer: Literal["adamw", "adamw_8bit", "adafactor", "prodigy", "schedule_free", "lion", "came", "muon"] = Field(
        "adamw",
        description="What turns gradients into steps. adamw_8bit needs the quantization extra; prodigy, schedule_free, lion and came need "
        "the optimizers extra; muon is torch's, with AdamW for what is no matrix.",
        json_schema_extra={
            "aliases": {
                "optimizer_type": {},
                "optim": {},
                "use_8bit_adam": {"true": "adamw_8bit", "false": None},
                "use_lion_optimizer": {"true": "lion", "false": None},
                "use_muon": {"true": "muon", "false": None},
            },
            "values": OPTIMIZER_NAMES,
            "refused": OPTIMIZERS,
        },
    )
    optimizer_args: list[str] = Field(
        [],
        description="The optimizer's own settings: [betas=0.9,0.95, d_coef=2]; `loraforge check` knows their names.",
        json_schema_extra={"aliases": ["optim_args", "optimizer_args_custom"]},
    )
    weight_decay: float = Field(0.0, ge=0, description="The optimizer's decay of the adapter's weights.")
    max_grad_norm: float = Field(1.0, ge=0, description="Longer gradients are shortened to this; 0 turns it off.")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Keep a running average of the adapter instead of its last weights: 0.99 or more; 0 turns it off."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Compute activations twice to save memory.",
        json_schema_extra={
            "aliases": {"disable_gradient_checkpointing": {"true": False, "false": True}, "use_gradient_checkpointing": {"unsloth": True}}
        },
    )
    kernels: Literal["auto", "off"] = Field(
        "auto", description="auto computes in less time and memory where the library's own code is known to do the same; off uses that."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp8", "4bit"] = Field(
        "auto",
        description="Of the base model: auto is bf16 where the hardware has it, otherwise fp32. fp8 (pictures) and 4bit (QLoRA) keep it "
        "rounded, and compute in bf16.",
        json_schema_extra={
            "aliases": {
                "mixed_precision": {"no": "fp32", "within": {"4bit": ["bf16"], "fp8": ["bf16"]}},
                "bf16": {"true": "bf16", "false": None, "auto": "auto", "within": {"4bit": ["bf16", "auto"], "fp8": ["bf16", "auto"]}},
                "fp16": {"true": "fp16", "false": None},
                "load_in_4bit": {"true": "4bit", "false": None},
                "quantization_bit": {"4": "4bit"},
                "fp8_base": {"true": "fp8", "false": None},
                "fp8_base_unet": {"true": "fp8", "false": None},
            },
            "refused": PRECISIONS,
        },
    )

    checks: dict[str, Literal["error", "warning", "hint", "off"]] = Field(
        default_factory=dict,
        description="How bad the findings of a check are: {hedging: error, abbreviations: off}. `loraforge list` names them.",
    )
    stop_on: Literal["error", "warning", "never"] = Field(
        "error", description="Findings of the data's checks that stop a run unless they are waived: errors, warnings too, or none."
    )
    waivers: str | None = Field(
        None,
        description="The CSV report of `loraforge check --report`, in whose column 'waive' somebody wrote why a finding may stay.",
        json_schema_extra={"path": "input"},
    )
    require_review: bool = Field(False, description="Learn only rows that name a reviewer or are approved; others count as bad rows.")
    on_bad_row: Literal["stop", "skip"] = Field(
        "stop", description="What to do with rows that cannot be trained on: stop and list them all, or skip them and list them all."
    )
    eval_ratio: float = Field(
        0.2,
        ge=0,
        le=0.9,
        description="The share of the examples that is held out and never trained on.",
        json_schema_extra={"aliases": ["val_size", "val_set_size", "validation_split"]},
    )
    split_by: str = Field(
        "auto",
        description="What stays on one side of the hold-out besides near-identical questions: answer, question (nothing else), or a column "
        "of the table (topic, patient). auto: answer, but not short answers that many questions share (yes, no, a class).",
    )
    save_steps: int = Field(
        50,
        ge=0,
        description="A checkpoint and a held-out loss every so many steps; 0: only at the end.",
        json_schema_extra={"aliases": ["save_every_n_steps"]},
    )
    save_epochs: int = Field(
        0,
        ge=0,
        description="The same after every so many passes; save_steps is 0 then, unless it is written too: both count. 0: off.",
        json_schema_extra={
            "aliases": {
                "save_every_n_epochs": {},
                **{name: {"epoch": 1, "steps": None} for name in ("save_strategy", "eval_strategy", "evaluation_strategy")},
            },
            "refused": SAVES,
        },
    )
    patience: int = Field(
        0,
        ge=0,
        description="Stop early after this many held-out losses in a row without a new best one; 0: never stop early.",
        json_schema_extra={"aliases": ["early_stopping_patience", "early_stopping_steps"]},
    )
    adapter_from: Literal["best", "last"] = Field(
        "best",
        description="Which step the adapter comes from: the checkpoint with the lowest held-out loss, or the last step.",
        json_schema_extra={"aliases": {"load_best_model_at_end": {"true": "best", "false": "last"}}},
    )
    eval_answers: bool = Field(
        True, description="At the end, ask base and adapter the held-out questions and compare (`loraforge eval` does it later)."
    )
    eval_minutes: float = Field(
        10.0, ge=0, description="At the end, the most minutes of answering; the table says how many were answered. 0: until all are."
    )
    lr_advice: Literal["show", "apply"] = Field(
        "show", description="What to do when the loss says that learning_rate does not suit: say so, or train once more with a better one."
    )
    save_total_limit: int = Field(5, ge=1, description="How many checkpoints are kept; older ones are deleted.")
    seed: int = Field(
        42, ge=0, lt=2**32, description="Equal seeds give equal adapters on equal machines.", json_schema_extra={"refused": SEEDS}
    )

    prompt_template: str = Field("auto", description="auto, the name of a template, or an inline one such as '[INST]{instruction}[/INST]'.")
    data_loader: str | None = Field(None, description="Which plugin reads the data; by default the task's.")
    model_family: str | None = Field(None, description="Which plugin loads the base; by default the one that recognises it.")
    export_at_saves: bool = Field(
        False, description="Export at every save too, into saves/ of the run's folder: name-000150.safetensors. All of them are kept."
    )
    export: list[str] | None = Field(None, description="What is written at the end; by default what the task says. [] for nothing.")

    @model_validator(mode="before")
    @classmethod
    def _what_suits_the_optimizer(cls, values: Any) -> Any:
        """Fills in what the values that are given ask of those that are not."""
        if not isinstance(values, dict):
            return values
        saves = {"save_steps": 0} if values.get("save_epochs") else {}
        return {**profiles.defaults(values.get("optimizer")), **saves, **values}

    @field_validator("optimizer_args", mode="before")
    @classmethod
    def _as_a_list(cls, value: Any) -> Any:
        """``a=1 b=2`` and ``{a: 1}``, as other trainers have it."""
        return arguments.listed(value)

    @field_validator("block_ranks", mode="before")
    @classmethod
    def _parts_with_ranks(cls, value: Any) -> Any:
        """A mapping too, and one entry alone; each is looked at."""
        entries = [f"{part}={rank}" for part, rank in value.items()] if isinstance(value, dict) else value
        entries = [entry for entry in entries.split(",") if entry.strip()] if isinstance(entries, str) else entries
        problems = []
        for entry in entries if isinstance(entries, list) else ():
            try:
                parse_block_rank(str(entry))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return entries

    @field_validator("lora_target")
    @classmethod
    def _target_is_not_empty(cls, value: str | list[str]) -> str | list[str]:
        if not value or any(not str(name).strip() for name in ([value] if isinstance(value, str) else value)):
            raise ValueError(say("must name at least one module"))
        return value

    @classmethod
    def typical_range(cls, key: str) -> tuple[float, float]:
        """The range of a key that usually works."""
        extra = cast(Mapping[str, Any], cls.model_fields[key].json_schema_extra)
        low, high = extra["usual"]
        return float(low), float(high)

    @property
    def adapter_kind(self) -> str:
        """lora, lokr or loha: what ``lora_variant`` is by its tensors. rsLoRA, DoRA and PiSSA are LoRAs."""
        return self.lora_variant if self.lora_variant in ("lokr", "loha") else "lora"

    @property
    def alpha(self) -> int:
        """``lora_alpha``, or its default."""
        return self.lora_alpha if self.lora_alpha is not None else 2 * self.lora_rank


def resolve_base(source: Source) -> str:
    """The base_model that ``validate`` will see, for choosing the model family before its keys are known; empty if it is missing."""
    value = source.values.get("base_model")
    if value is None or not isinstance(value.value, str) or unwritable(value.value):
        return ""
    problems: dict[str, str] = {}
    found = str(resolve_path(source, value, RunConfig.model_fields["base_model"], "base_model", problems))
    return "" if problems else found
