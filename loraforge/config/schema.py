"""Values with lines -> one validated model per owner; every error at file:line, all at once.

Every key has exactly one owner per run: the core (``RunConfig``), the task, or a component that the run uses. An owner declares its
keys as one pydantic model with help and bounds at the field. Validation, ``loraforge keys``, ``docs/config.md`` and the JSON Schema all
come from that declaration.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from ..errors import ConfigError
from ..messages import speaker
from .yaml_reader import Source, Value, unwritable

say = speaker(__name__)


class Keys(BaseModel):
    """The YAML keys of one owner. Derive, and give every field a ``Field(default, description=...)``.

    ``Field(json_schema_extra={"usual": [low, high], "why": "..."})`` draws advice outside of the usual range;
    ``json_schema_extra={"path": "input"}`` looks a relative path up from the working directory first, from the config file's folder second.
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
        json_schema_extra={"path": "base"},
    )
    revision: str | None = Field(None, description="The branch, tag or commit of a base model from a hub.")
    task_type: str | None = Field(None, description="Optional; must agree with the command (text-generation means text).")
    output_dir: str = Field("./output/run", description="The run's folder: checkpoints, log, adapter, exports.")

    lora_rank: int = Field(
        16,
        ge=1,
        le=512,
        description="The rank of the adapter: how much it can hold.",
        json_schema_extra={"usual": [8, 16], "why": "16 suits medicine and law, 8 fixed formats; more rank on few rows over-fits"},
    )
    lora_alpha: int | None = Field(None, ge=1, description="The scale is lora_alpha / lora_rank; by default twice the rank.")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="The share of the adapter's input that is dropped in training.")
    lora_target: str | list[str] = Field(
        "all-linear",
        description="Where the adapter sits: 'q,v', 'attention', 'all-linear', module names, or a regular expression for module paths.",
    )
    lora_variant: Literal["lora", "rslora", "dora", "pissa"] = Field("lora", description="The kind of adapter.")
    init_from_adapter: str | None = Field(
        None, description="A run or adapter folder to continue from, with new data.", json_schema_extra={"path": "input"}
    )

    batch_size: int = Field(
        4,
        ge=1,
        description="examples per forward pass and device",
        json_schema_extra={"usual": [1, 8], "why": "with a few hundred rows larger batches leave too few steps"},
    )
    gradient_accumulation: int = Field(1, ge=1, description="Forward passes per optimizer step: the same result with less memory.")
    epochs: float = Field(10, gt=0, le=10000, description="Passes over the examples.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps, whatever epochs says.")
    learning_rate: float = Field(
        2e-4,
        gt=0,
        le=1,
        description="The step size at its peak.",
        json_schema_extra={
            "usual": [1e-4, 3e-4],
            "why": "start at 2e-4; loss falling too slowly: 3e-4, oscillating: 1e-4; very small bases need much more",
        },
    )
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="How the learning rate moves after the warm-up."
    )
    warmup: float = Field(
        0.03, ge=0, description="Steps until the full rate: a share of all steps if below 1, otherwise a number of steps."
    )
    optimizer: Literal["adamw", "adamw_8bit", "adafactor"] = Field(
        "adamw", description="adamw_8bit needs a GPU and the quantization extra; adafactor needs the least memory of the others."
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the adapter's weights.")
    max_grad_norm: float = Field(1.0, ge=0, description="Longer gradients are shortened to this; 0 turns it off.")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Keep a running average of the adapter instead of its last weights: 0.99 or more; 0 turns it off."
    )
    gradient_checkpointing: bool = Field(False, description="Compute activations twice to save memory.")
    kernels: Literal["auto", "off"] = Field(
        "auto", description="auto computes in less time and memory where the library's own code is known to do the same; off uses that."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "4bit"] = Field(
        "auto", description="Of the base model: auto is bf16 where the hardware has it, otherwise fp32; 4bit is QLoRA."
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
    eval_ratio: float = Field(0.2, ge=0, le=0.9, description="The share of the examples that is held out and never trained on.")
    save_steps: int = Field(50, ge=0, description="A checkpoint and a held-out loss every so many steps; 0: only at the end.")
    patience: int = Field(
        0, ge=0, description="Stop early after this many held-out losses in a row without a new best one; 0: never stop early."
    )
    adapter_from: Literal["best", "last"] = Field(
        "best", description="Which step the adapter comes from: the checkpoint with the lowest held-out loss, or the last step."
    )
    eval_answers: bool = Field(
        True, description="At the end, ask base and adapter the held-out questions and compare (`loraforge eval` does it later)."
    )
    lr_advice: Literal["show", "apply"] = Field(
        "show", description="What to do when the loss says that learning_rate does not suit: say so, or train once more with a better one."
    )
    save_total_limit: int = Field(5, ge=1, description="How many checkpoints are kept; older ones are deleted.")
    seed: int = Field(42, ge=0, lt=2**32, description="Equal seeds give equal adapters on equal machines.")

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


def validate(source: Source, owners: Sequence[type[Keys]], *, paths: bool = True) -> KeySet:
    """The values of every owner.

    Args:
        paths: look paths up; an opened run does without, because its data may have moved since.

    Raises:
        ConfigError: with every unknown key, wrong value, missing key and missing path at once.
    """
    known = fields(owners)
    problems: dict[str, str] = {}
    for key, value in source.values.items():
        if key not in known:
            problems[key] = say("{where}: unknown key '{key}'.{hint}", where=value.where, key=key, hint=did_you_mean(key, known))
        elif isinstance(value.value, bool) and not _takes_bool(known[key][1]):
            shown = str(value.value).lower()
            problems[key] = say("{where}: {key}: must not be true or false; got {value}.", where=value.where, key=key, value=shown)
        elif unwritable(value.value):
            shown = plain(value.value)
            problems[key] = say(
                "{where}: {key}: has a character that no text can hold; got {value}.", where=value.where, key=key, value=shown
            )
    models: dict[type[Keys], Keys] = {}
    for owner in owners:
        mine = {
            key: _resolve_path(source, value, owner.model_fields[key], key, problems) if paths else value.value
            for key, value in source.values.items()
            if key in owner.model_fields and key not in problems and not (value.value is None and _has_default(owner.model_fields[key]))
        }
        try:
            models[owner] = owner(**mine)
        except ValidationError as error:
            for detail in error.errors():
                key = str(detail["loc"][0]) if detail["loc"] else ""
                problems.setdefault(key, _explain(source, key, known, cast(Mapping[str, Any], detail)))
    if problems:
        order = list(source.values)
        raise ConfigError([problems[k] for k in sorted(problems, key=lambda k: order.index(k) if k in order else len(order))])
    return KeySet(models)


def did_you_mean(word: str, known: Iterator[str] | Mapping[str, Any] | Sequence[str]) -> str:
    """`` Did you mean 'x'?`` with a leading space, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return say(" Did you mean '{word}'?", word=close[0]) if close else ""


def _has_default(info: FieldInfo) -> bool:
    return not info.is_required()


def _takes_bool(info: FieldInfo) -> bool:
    return "bool" in str(info.annotation)


def _explain(source: Source, key: str, known: Mapping[str, tuple[type[Keys], FieldInfo]], detail: Mapping[str, Any]) -> str:
    """One validation error in plain words."""
    context = detail.get("ctx", {})
    got = detail.get("input")
    kind = detail["type"]
    if kind == "missing":
        about = known[key][1].description or ""
        return say("{file}: '{key}' is missing. {help}", file=source.path, key=key, help=say(about))
    where = source.values[key].where if key in source.values else str(source.path)
    rules: dict[str, Callable[[], str]] = {
        "greater_than_equal": lambda: say("must be {bound} or more", bound=plain(context["ge"])),
        "greater_than": lambda: say("must be more than {bound}", bound=plain(context["gt"])),
        "less_than_equal": lambda: say("must be {bound} or less", bound=plain(context["le"])),
        "less_than": lambda: say("must be less than {bound}", bound=plain(context["lt"])),
        "int_parsing": lambda: say("must be a whole number"),
        "int_from_float": lambda: say("must be a whole number"),
        "int_type": lambda: say("must be a whole number"),
        "float_parsing": lambda: say("must be a number"),
        "float_type": lambda: say("must be a number"),
        "finite_number": lambda: say("must be a finite number"),
        "bool_parsing": lambda: say("must be true or false"),
        "bool_type": lambda: say("must be true or false"),
        "string_type": lambda: say("must be text"),
        "list_type": lambda: say("must be a list, like [a, b]"),
        "dict_type": lambda: say("must be a list of 'name: value' lines"),
        "literal_error": lambda: say("must be one of {choices}", choices=str(context.get("expected", "")).replace(" or ", ", ")),
        "value_error": lambda: str(context.get("error", detail["msg"])),
    }
    rule = rules.get(kind, lambda: str(detail["msg"]))()
    about = say(known[key][1].description or "") if key in known else ""
    return say("{where}: {key}: {rule}; got {got}. ({help})", where=where, key=key, rule=rule, got=plain(got), help=about)


def plain(value: Any) -> str:
    """A value as people write it: quoted text, 0.0002, true."""
    if isinstance(value, str | list | dict):
        text = repr(value)
        return text if len(text) <= 300 else f"{text[:300]}..."
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    return str(value)


def _resolve_path(source: Source, value: Value, info: FieldInfo, key: str, problems: dict[str, str]) -> Any:
    """A path that exists, seen from the working directory, or from the config file's folder; other values as they are."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    role = extra.get("path")
    if role is None or not isinstance(value.value, str):
        return value.value
    if not value.value.strip():
        problems[key] = say("{where}: {key}: is empty.", where=value.where, key=key)
        return value.value
    written = os.path.expanduser(value.value)
    # A bare word names an embedded base even where a folder of that name happens to lie about; org/name may be a folder or a hub id.
    if role == "base" and "/" not in written and "\\" not in written:
        return value.value
    for candidate in (Path(written), source.path.parent / written):
        if os.path.exists(candidate):  # False for what is too long to be a name
            return str(candidate.absolute())
    first, second = Path(written).absolute(), (source.path.parent / written).absolute()
    if not _looks_like_path(value.value) and role != "input":
        return value.value
    if os.path.normpath(first) == os.path.normpath(second):
        problems[key] = say(
            "{where}: {key}: there is no '{value}' (looked at {first}).", where=value.where, key=key, value=value.value, first=first
        )
    else:
        problems[key] = say(
            "{where}: {key}: '{value}' is neither at {first} nor at {second}.",
            where=value.where,
            key=key,
            value=value.value,
            first=first,
            second=second,
        )
    return value.value


def resolve_base(source: Source) -> str:
    """The base_model that ``validate`` will see, for choosing the model family before its keys are known; empty if it is missing."""
    value = source.values.get("base_model")
    if value is None or not isinstance(value.value, str) or unwritable(value.value):
        return ""
    problems: dict[str, str] = {}
    found = str(_resolve_path(source, value, RunConfig.model_fields["base_model"], "base_model", problems))
    return "" if problems else found


def _looks_like_path(value: str) -> bool:
    """Whether a base_model can only be a path: ``./models/x``, ``/models/x``, ``~/x``, ``C:\\x``, ``a/b/c``. ``org/name`` is a hub id."""
    return value.startswith((".", "/", "~")) or "\\" in value or value.count("/") > 1 or bool(re.match(r"^[A-Za-z]:[\\/]", value))


def advice(keys: KeySet, source: Source, own: Mapping[str, tuple[float, float]] | None = None) -> list[str]:
    """Remarks on values that are allowed but outside of the range that usually works.

    Args:
        own: the ranges that the base has of its own.
    """
    remarks = []
    for owner in keys:
        for name, info in type(owner).model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            if "usual" not in extra:
                continue
            for_base = (own or {}).get(name)
            low, high = for_base or cast(list[float], extra["usual"])
            value = getattr(owner, name)
            if value is None or low <= value <= high:
                continue
            where = source.values[name].where if name in source.values else str(source.path)
            if for_base is not None:
                remarks.append(
                    say(
                        "{where}: {key} is {value}; this base model wants {low} to {high}.",
                        where=where,
                        key=name,
                        value=plain(value),
                        low=plain(low),
                        high=plain(high),
                    )
                )
                continue
            remarks.append(
                say(
                    "{where}: {key} is {value}; usual is {low} to {high} ({why}).",
                    where=where,
                    key=name,
                    value=plain(value),
                    low=plain(low),
                    high=plain(high),
                    why=say(str(extra.get("why", ""))),
                )
            )
    return remarks
