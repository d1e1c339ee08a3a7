# SPDX-License-Identifier: Apache-2.0
"""Loads a diffusers folder: every part by its own library, whole or not at all. Only tensors are read, and no code of the folder is run."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ModelError, speaker

from .base_files import PICKLES, WEIGHTS, check_shards, listed_parts, locate, missing_parts, part_config, read_config

if TYPE_CHECKING:
    import torch

say = speaker(__name__)

_LIBRARIES = ("diffusers", "transformers")
_SHAPES_ONLY: ContextVar[bool] = ContextVar("shapes_only", default=False)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """While it lasts, the models of a base are built from their configurations alone: layers with shapes and without numbers."""
    before = _SHAPES_ONLY.set(True)
    quiet_diffusers()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old configurations, which is said in training where it matters
            yield
    finally:
        _SHAPES_ONLY.reset(before)


def wants_weights() -> bool:
    """Whether bases are loaded with their weights."""
    return not _SHAPES_ONLY.get()


def load_pipeline(
    base_model: str,
    revision: str | None,
    kind: str,
    dtype: torch.dtype,
    *,
    allow_pickle: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """A diffusers folder as the pipeline that it says it is, on the CPU.

    Args:
        kind: the pipeline's class.
        dtype: of everything but the autoencoder, which stays in float32: half precision overflows in some.
        given: parts that are loaded already, and whose weights the folder need not have.

    Raises:
        ModelError: if it cannot be loaded, or lacks tensors.
    """
    import diffusers
    import torch

    place = locate(base_model, revision, WEIGHTS if wants_weights() else ())
    parts = _listed(base_model, place, kind)
    quiet_diffusers()
    try:
        loaded: dict[str, Any] = dict(given or {})
        for name, (library, class_name) in parts.items():
            if name in loaded:
                continue
            home = getattr(diffusers.pipelines, library, None) if library not in _LIBRARIES else importlib.import_module(library)
            found = getattr(home, class_name, None)
            if inspect.isclass(found) and issubclass(found, torch.nn.Module):
                part_config(place / name / "config.json")
                kept = torch.float32 if name.startswith("vae") else dtype
                loaded[name] = load_part(found, place, name, kept, allow_pickle=allow_pickle)
        # diffusers takes parts that a folder is without, such as T5, for missing ones unless it is told.
        absent = {name: None for name, part in read_config(place / "model_index.json").items() if part == [None, None]}
        return getattr(diffusers, kind).from_pretrained(place, local_files_only=True, **{**absent, **loaded})
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged or missing files
        line = str(error).strip().split("\n")[0][:300]
        raise ModelError(say("base_model {base} cannot be loaded: {error}", base=base_model, error=line)) from None


def _listed(base_model: str, place: Path, kind: str) -> dict[str, tuple[str, str]]:
    """(library, class) of every part of a pipeline that can be loaded.

    Raises:
        ModelError: if it is another pipeline, lacks a part, or one of its parts is of neither diffusers nor transformers.
    """
    index = read_config(place / "model_index.json")
    if index.get("_class_name") != kind:
        found = index.get("_class_name") or say("nothing")
        text = say("base_model {base}: a {kind} is wanted, but its model_index.json says {found}.", base=base_model, kind=kind, found=found)
        raise ModelError(text)
    parts, gone = listed_parts(place), missing_parts(place)
    if gone:
        raise ModelError(say("base_model {folder} lacks {names}.", folder=base_model, names=", ".join(gone)))
    import diffusers

    strange = [name for name, part in parts.items() if part[0] not in _LIBRARIES and not hasattr(diffusers.pipelines, part[0])]
    if strange:
        names = ", ".join(strange)
        raise ModelError(
            say(
                "base_model {base}: {names} would run code that the model brings, which LoRAForge never does.", base=base_model, names=names
            )
        )
    return parts


def load_part(kind: Any, place: Path, name: str, dtype: torch.dtype, *, allow_pickle: bool = False) -> Any:
    """One model of a diffusers folder.

    Args:
        kind: its class, of diffusers or of transformers.
        name: its folder.

    Raises:
        ModelError: if tensors are missing, or it is a pickle that is not allowed.
    """
    there = place / name
    if not wants_weights():
        return _shell(kind, place, name)
    check_shards(there)
    plain = [p for p in there.glob("*.safetensors*") if ".fp16" not in p.name]
    half = list(there.glob("*.fp16*.safetensors*"))
    chosen: dict[str, Any] = {"local_files_only": True, "use_safetensors": bool(plain or half), "low_cpu_mem_usage": True}
    if not plain and not half:
        check_pickle(there, sorted(p for p in there.iterdir() if p.suffix in PICKLES), allow_pickle)
    if half and not plain:
        chosen["variant"] = "fp16"
    if kind.__module__.startswith("diffusers."):
        part, told = kind.from_pretrained(place, subfolder=name, torch_dtype=dtype, output_loading_info=True, **chosen)
    else:
        part, told = kind.from_pretrained(there, dtype=dtype, output_loading_info=True, **chosen)
    if told["missing_keys"]:  # the libraries would fill them with chance
        count = len(told["missing_keys"])
        raise ModelError(say("base_model {folder}: {n} tensors of its {part} are missing.", folder=place, n=count, part=name))
    return part


def _shell(kind: Any, place: Path, name: str) -> Any:
    """One model of a diffusers folder, built from its configuration: its layers have shapes, and no numbers."""
    import torch

    with torch.device("meta"):
        if kind.__module__.startswith("diffusers."):
            return kind.from_config(kind.load_config(place, subfolder=name, local_files_only=True))
        return kind(kind.config_class.from_pretrained(place / name, local_files_only=True))


def check_pickle(place: Path, files: Sequence[Path], allow: bool) -> None:
    """Raises:
    ModelError: if there are ``files``, which are pickles, and these are not allowed.
    """
    if files and not allow:
        raise ModelError(
            say(
                "base_model {place}: {files} may run code when it is read. Convert it to safetensors, or set allow_pickle: true, which "
                "reads numbers only (weights_only).",
                place=place,
                files=", ".join(file.name for file in files),
            )
        )


def read_weights(file: Path, allow_pickle: bool) -> dict[str, Any]:
    """The tensors of a single file by name.

    Raises:
        ModelError: if it is damaged, or a pickle that is not allowed or holds more than numbers.
    """
    if file.suffix.lower() not in PICKLES:
        import safetensors.torch

        loaded: dict[str, Any] = safetensors.torch.load_file(file)
        return loaded
    import zipfile

    import torch

    check_pickle(file, [file], allow_pickle)
    try:
        zipped = zipfile.is_zipfile(file)
        if zipped:
            with zipfile.ZipFile(file) as archive:  # torch stores, it packs nothing; what is packed may unpack a thousandfold
                if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                    raise ValueError
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
        for _ in range(8):
            if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
                found = found["state_dict"]
        tensors = {n: t for n, t in found.items() if isinstance(t, torch.Tensor)} if isinstance(found, dict) else {}
        # A view can claim any size of a few bytes.
        if any(t.numel() * t.element_size() > t.untyped_storage().nbytes() for t in tensors.values()):
            raise ValueError
    except Exception:  # torch's own text would advise to turn weights_only off
        raise ModelError(
            say(
                "base_model {file} is damaged, or holds more than tensors; only tensors are read from a pickle, and nothing in it was run. "
                "Take the .safetensors of the same model.",
                file=file,
            )
        ) from None
    return tensors


def not_finite(pipe: Any) -> Iterator[str]:
    """The weights of a pipeline's parts that hold a value that is no number, by part and name."""
    import torch

    for part, module in sorted(pipe.components.items()):
        for name, tensor in module.state_dict().items() if isinstance(module, torch.nn.Module) else ():
            # A sum is finite only where all of it is, and takes no memory; one that overflows is looked at again.
            whole = not tensor.is_floating_point() or tensor.is_meta or bool(torch.isfinite(tensor.sum(dtype=torch.float32)))
            if not (whole or bool(torch.isfinite(tensor).all())):
                yield f"{part}.{name}"


def type_of(precision: str) -> torch.dtype:
    """The type that a model of images is read and computed with in, by ``precision``."""
    import torch

    # What is rounded further (``fitting``) is read and computed with in bfloat16.
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16, "4bit": torch.bfloat16}
    return names[precision]


def quiet_diffusers() -> None:
    """What diffusers warns of, we say ourselves."""
    import transformers  # first: importing diffusers makes it warn of what is not installed

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
