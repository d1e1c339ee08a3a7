"""Values with lines -> one validated model per owner; every error at file:line, all at once.

Every key has exactly one owner per run: the core (``RunConfig``), the task, or a component that the run uses. An owner declares its
keys as one pydantic model with help and bounds at the field. Validation, ``loraforge keys``, ``docs/config.md`` and the JSON Schema all
come from that declaration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from ..errors import ConfigError
from ..messages import speaker
from .aliases import all_aliases
from .explanations import explain, label, plain, unknown_key
from .paths import resolve_path
from .refused import ALPHA, OPTIMIZERS, PRECISIONS, SEEDS
from .yaml_reader import Source, unwritable

say = speaker(__name__)


class Keys(BaseModel):
    """The YAML keys of one owner. Derive, and give every field a ``Field(default, description=...)``.

    ``Field(json_schema_extra={"usual": [low, high], "why": "..."})`` draws advice outside of the usual range;
    ``json_schema_extra={"path": "input"}`` looks a relative path up from the working directory first, from the config file's folder second;
    ``json_schema_extra={"aliases": [...], "values": {...}}`` takes what other programs call the key and its values: see ``aliases``;
    ``json_schema_extra={"refused": {...}}`` says what there is instead of values that only other programs know: see ``refused``;
    ``json_schema_extra={"needs": "other_key"}`` says so where the key is set and that key of the same owner, or each of a list, is not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, protected_namespaces=(), allow_inf_nan=False)


class NoKeys(Keys):
    """For owners without keys of their own."""


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
    lora_variant: Literal["lora", "rslora", "dora", "pissa"] = Field(
        "lora",
        description="The kind of adapter.",
        json_schema_extra={
            "aliases": {
                **{name: {"true": "rslora", "false": None} for name in ("use_rslora", "peft_use_rslora")},
                **{name: {"true": "dora", "false": None} for name in ("use_dora", "peft_use_dora")},
                "pissa_init": {"true": "pissa", "false": None},
            }
        },
    )
    init_from_adapter: str | None = Field(
        None,
        description="A run or adapter folder to continue from, with new data.",
        json_schema_extra={"aliases": ["adapter_name_or_path", "lora_model_dir"], "path": "input"},
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
        description="The step size at its peak: at the end of the warm-up. Without one, a rate that falls begins just below it.",
        json_schema_extra={
            "aliases": ["lr", "unet_lr"],
            "usual": [1e-4, 3e-4],
            "why": "start at 2e-4; loss falling too slowly: 3e-4, oscillating: 1e-4; very small bases need much more",
        },
    )
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine",
        description="How the learning rate moves after the warm-up.",
        json_schema_extra={"aliases": ["lr_scheduler_type"], "values": {"cosine_with_restarts": "cosine"}},
    )
    warmup: float = Field(
        0.03,
        ge=0,
        description="Steps until the full rate: a share of all steps if below 1, otherwise a number of steps.",
        json_schema_extra={"aliases": {"lr_warmup_steps": {}, "warmup_steps": {}, "warmup_ratio": {"below": 1}}},
    )
    optimizer: Literal["adamw", "adamw_8bit", "adafactor"] = Field(
        "adamw",
        description="adamw_8bit needs a GPU and the quantization extra; adafactor needs the least memory of the others.",
        json_schema_extra={
            "aliases": {"optimizer_type": {}, "optim": {}, "use_8bit_adam": {"true": "adamw_8bit", "false": None}},
            "values": {
                **{name: "adamw" for name in ("AdamW", "adamw_torch", "adamw_torch_fused")},
                **{name: "adamw_8bit" for name in ("AdamW8bit", "adamw_bnb_8bit")},
            },
            "refused": OPTIMIZERS,
        },
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the adapter's weights.")
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
    precision: Literal["auto", "fp32", "bf16", "fp16", "4bit"] = Field(
        "auto",
        description="Of the base model: auto is bf16 where the hardware has it, otherwise fp32; 4bit is QLoRA.",
        json_schema_extra={
            "aliases": {
                "mixed_precision": {"no": "fp32", "within": {"4bit": ["bf16"]}},
                "bf16": {"true": "bf16", "false": None, "auto": "auto", "within": {"4bit": ["bf16", "auto"]}},
                "fp16": {"true": "fp16", "false": None},
                "load_in_4bit": {"true": "4bit", "false": None},
                "quantization_bit": {"4": "4bit"},
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
    export: list[str] | None = Field(None, description="What is written at the end; by default what the task says. [] for nothing.")

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
    def alpha(self) -> int:
        """``lora_alpha``, or its default."""
        return self.lora_alpha if self.lora_alpha is not None else 2 * self.lora_rank


K = TypeVar("K", bound=Keys)


class KeySet:
    """The validated keys of a run, by owner: ``keys[TextKeys].max_seq_length``."""

    def __init__(self, values: Mapping[type[Keys], Keys]) -> None:
        self._values = dict(values)

    def __getitem__(self, owner: type[K]) -> K:
        return cast(K, self._values[owner])

    def __iter__(self) -> Iterator[Keys]:
        return iter(self._values.values())

    def replaced(self, values: Keys) -> KeySet:
        """The same keys with the values of one owner exchanged."""
        return KeySet({**self._values, type(values): values})

    def flat(self) -> dict[str, Any]:
        """Every effective value by key, the core's first."""
        return {key: value for owner in self for key, value in owner.model_dump(mode="json").items()}


def fields(owners: Sequence[type[Keys]]) -> dict[str, tuple[type[Keys], FieldInfo]]:
    """Every key of the owners, with its owner. The caller has made sure that no key has two."""
    return {name: (owner, info) for owner in owners for name, info in owner.model_fields.items()}


def validate(source: Source, owners: Sequence[type[Keys]], *, paths: bool = True, others: Mapping[str, str] | None = None) -> KeySet:
    """The values of every owner.

    Args:
        others: keys of other tasks, each with its task.
        paths: look paths up; an opened run does without, because its data may have moved since.

    Raises:
        ConfigError: with every unknown key, wrong value, missing key and missing path at once.
    """
    known = fields(owners)
    problems: dict[str, str] = {}
    for key, value in source.values.items():
        if key in source.problems:
            problems[key] = source.problems[key]
        elif key not in known and others and key in others:
            problems[key] = say(
                "{where}: '{key}' is a key of {task} (`loraforge train {task}`); it means nothing here: take the line out.",
                where=value.where,
                key=key,
                task=others[key],
            )
        elif key not in known:
            hint = unknown_key(key, value.value, known, all_aliases(owners))
            problems[key] = say("{where}: unknown key '{key}'.{hint}", where=value.where, key=key, hint=hint)
        elif isinstance(value.value, bool) and not _takes_bool(known[key][1]):
            shown = str(value.value).lower()
            problems[key] = say(
                "{where}: {key}: must not be true or false; got {value}.", where=value.where, key=label(source, key), value=shown
            )
        elif unwritable(value.value):
            shown = plain(value.value)
            problems[key] = say(
                "{where}: {key}: has a character that no text can hold; got {value}.", where=value.where, key=key, value=shown
            )
    models: dict[type[Keys], Keys] = {}
    for owner in owners:
        mine = {
            key: resolve_path(source, value, owner.model_fields[key], key, problems) if paths else value.value
            for key, value in source.values.items()
            if key in owner.model_fields
            and key not in problems
            and not (_blank(owner.model_fields[key], value.value) and not owner.model_fields[key].is_required())
        }
        try:
            models[owner] = owner(**mine)
        except ValidationError as error:
            for detail in error.errors():
                key = str(detail["loc"][0]) if detail["loc"] else ""
                about = say(known[key][1].description or "") if key in known else ""
                problems.setdefault(
                    key, explain(source, key, about, cast(Mapping[str, Any], detail), known[key][1] if key in known else None)
                )
    if problems:
        order = list(source.values)
        raise ConfigError([problems[k] for k in sorted(problems, key=lambda k: order.index(k) if k in order else len(order))])
    return KeySet(models)


def _blank(info: FieldInfo, value: Any) -> bool:
    """Whether nothing is said: no value, or an empty text where none is taken."""
    return value is None or (value == "" and not re.search(r"\bstr\b", re.sub(r"'[^']*'", "", str(info.annotation))))


def _takes_bool(info: FieldInfo) -> bool:
    return "bool" in str(info.annotation)


def resolve_base(source: Source) -> str:
    """The base_model that ``validate`` will see, for choosing the model family before its keys are known; empty if it is missing."""
    value = source.values.get("base_model")
    if value is None or not isinstance(value.value, str) or unwritable(value.value):
        return ""
    problems: dict[str, str] = {}
    found = str(resolve_path(source, value, RunConfig.model_fields["base_model"], "base_model", problems))
    return "" if problems else found
