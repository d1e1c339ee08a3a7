"""The parts of a Stable Diffusion model, loaded: U-Net, autoencoder, text encoders, tokenizers, noise schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, ModelError, speaker

from .bases import PICKLES, Base, config_folder, identify, lacking, locate, of_tensors, part_config, read_config

if TYPE_CHECKING:
    import torch

say = speaker(__name__)

WINDOW = 75  # CLIP's tokens without beginning and end


@dataclass
class Parts:
    """A loaded base. ``vae`` is float32 always: half precision overflows in SDXL's."""

    family: str
    unet: Any
    vae: Any
    text_encoders: list[Any]
    tokenizers: list[Any]
    scheduler: Any  # its config decides noise and prediction
    dtype: torch.dtype


def load_parts(
    base_model: str,
    revision: str | None,
    precision: str,
    family: str,
    *,
    prediction: str = "auto",
    allow_pickle: bool = False,
    base_config: str | None = None,
) -> Parts:
    """Loads a base on the CPU.

    Args:
        prediction: epsilon or v_prediction; auto takes what the files say.

    Raises:
        ModelError: if it cannot be loaded, or is of another family.
        ConfigError: if a precision is asked for that such models are not trained in.
    """
    import torch

    if precision == "4bit":
        raise ConfigError(say("precision: 4bit is for language models; use bf16 or fp16 for pictures."))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    base = identify(base_model, revision)
    check_family(base_model, base, family)
    quiet_diffusers()
    place = locate(base_model, revision, weights=True)
    try:
        if place.is_dir():
            parts = _from_folder(place, family, dtype, allow_pickle)
        else:
            parts, base = _from_file(base_model, place, family, dtype, allow_pickle, base_config)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged or missing files
        line = str(error).strip().split("\n")[0][:300]
        raise ModelError(say("base_model {base} cannot be loaded: {error}", base=base_model, error=line)) from None
    _set_prediction_type(parts, base, prediction, base_model, bool(base_config))
    for part in (parts.unet, parts.vae, *parts.text_encoders):
        part.requires_grad_(False)
        part.eval()
    return parts


def quiet_diffusers() -> None:
    """What diffusers warns of, we say ourselves."""
    import diffusers

    diffusers.utils.logging.set_verbosity_error()


def check_family(base_model: str, base: Base, wanted: str) -> None:
    """Whether a base is of the family that is to train it; a pickle's family shows when it is read.

    Raises:
        ModelError: saying what was found.
    """
    if base.family == wanted or not base.read:
        return
    lines = [say("base_model {base}: model_family is {wanted}, but this is {found}.", base=base_model, wanted=wanted, found=base.what)]
    raise ModelError([*lines, say("Set model_family: {family}.", family=base.family)] if base.family else lines)


def _set_prediction_type(parts: Parts, base: Base, wanted: str, base_model: str, configured: bool) -> None:
    """What the user says counts first, then what the files say, then the folder that the user named as the file's configuration."""
    said = wanted if wanted != "auto" else base.prediction
    if not said and configured:
        said = parts.scheduler.config.prediction_type
    if not said and parts.family != "sd2":  # of SD2 both kinds were published, in files that look alike
        said = "epsilon"
    if not said:
        raise ConfigError(
            say(
                "base_model {base}: the file does not say what it predicts. Set prediction_type: v_prediction (768-v models) or epsilon.",
                base=base_model,
            )
        )
    parts.scheduler.register_to_config(prediction_type=said)


def _check_pickle(place: Path, files: Sequence[Path], allow: bool) -> None:
    if files and not allow:
        raise ModelError(
            say(
                "base_model {place}: {files} may run code when it is read. Convert it to safetensors, or set allow_pickle: true, which "
                "reads numbers only (weights_only).",
                place=place,
                files=", ".join(file.name for file in files),
            )
        )


def _check_configs(folder: Path, encoders: Sequence[str]) -> None:
    """Raises:
    ModelError: if a configuration asks for more than any model has.
    """
    for name in ("unet", "vae", *encoders):
        part_config(folder / name / "config.json")
    part_config(folder / "scheduler" / "scheduler_config.json")


def _check_shards(folder: Path) -> None:
    """Raises:
    ModelError: if a list of weights names files of another folder.
    """
    for index in folder.glob("*.index.json"):
        named = read_config(index).get("weight_map")
        if not isinstance(named, dict) or any(not isinstance(n, str) or Path(n).name != n or "\\" in n for n in named.values()):
            raise ModelError(say("{path} of the base model names files outside of its folder.", path=index))


def _from_folder(folder: Path, family: str, dtype: torch.dtype, allow_pickle: bool) -> Parts:
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    names = ["text_encoder", "text_encoder_2"] if family == "sdxl" else ["text_encoder"]
    missing = lacking(folder, family)
    if missing:
        raise ModelError(say("base_model {folder} lacks {names}.", folder=folder, names=", ".join(missing)))
    _check_configs(folder, names)

    def settings(name: str) -> dict[str, Any]:
        there = folder / name
        _check_shards(there)
        plain = [p for p in there.glob("*.safetensors*") if ".fp16." not in p.name]
        half = list(there.glob("*.fp16.safetensors*"))
        chosen: dict[str, Any] = {"local_files_only": True, "use_safetensors": bool(plain or half), "low_cpu_mem_usage": True}
        if not plain and not half:
            _check_pickle(there, sorted(p for p in there.iterdir() if p.suffix in PICKLES), allow_pickle)
        if half and not plain:
            chosen["variant"] = "fp16"
        return chosen

    def loaded(kind: Any, name: str, **options: Any) -> Any:
        part, told = kind.from_pretrained(output_loading_info=True, **options, **settings(name))
        if told["missing_keys"]:  # the libraries would fill them with chance
            text = say("base_model {folder}: {n} tensors of its {part} are missing.", folder=folder, n=len(told["missing_keys"]), part=name)
            raise ModelError(text)
        return part

    unet = loaded(UNet2DConditionModel, "unet", pretrained_model_name_or_path=folder, subfolder="unet", torch_dtype=dtype)
    vae = loaded(AutoencoderKL, "vae", pretrained_model_name_or_path=folder, subfolder="vae", torch_dtype=torch.float32)
    kinds = [CLIPTextModel, CLIPTextModelWithProjection]
    encoders = [loaded(kinds[i], name, pretrained_model_name_or_path=folder / name, dtype=dtype) for i, name in enumerate(names)]
    tokenizers = [CLIPTokenizer.from_pretrained(folder / name.replace("text_encoder", "tokenizer")) for name in names]
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    return Parts(family, unet, vae, encoders, tokenizers, scheduler, dtype)


def _from_file(
    base_model: str, file: Path, family: str, dtype: torch.dtype, allow_pickle: bool, base_config: str | None
) -> tuple[Parts, Base]:
    """The parts of a checkpoint in the original layout, and what it turned out to be."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    weights = _weights(file, allow_pickle)
    base = of_tensors(file, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    check_family(base_model, base, family)
    config = config_folder(file, family, base_config)
    names = ["text_encoder", "text_encoder_2"] if family == "sdxl" else ["text_encoder"]
    _check_configs(config, names)
    common = {"config": str(config), "local_files_only": True}
    # Not StableDiffusionPipeline.from_single_file: it would round the autoencoder to half precision too.
    load: dict[str, Callable[..., Any]] = {
        "unet": partial(UNet2DConditionModel.from_single_file, torch_dtype=dtype),
        "vae": partial(AutoencoderKL.from_single_file, torch_dtype=torch.float32),
        "text_encoder": partial(create_diffusers_clip_model_from_ldm, CLIPTextModel, torch_dtype=dtype),
        "text_encoder_2": partial(create_diffusers_clip_model_from_ldm, CLIPTextModelWithProjection, torch_dtype=dtype),
    }
    loaded: dict[str, Any] = {}
    for name in ("unet", "vae", *names):
        try:
            loaded[name] = load[name](weights, subfolder=name, **common)
            whole = not any(value.is_meta for value in loaded[name].parameters())
        except NotImplementedError:  # torch cannot move what was never filled
            whole = False
        except Exception as error:  # the libraries raise many kinds
            line = str(error).strip().split("\n")[0][:300]
            raise ModelError(
                [
                    say("base_model {base} cannot be loaded: {error}", base=base_model, error=f"{name}: {line}"),
                    say("Its configuration is that of {folder}; base_config names another folder of the same model.", folder=config),
                ]
            ) from None
        if not whole:
            raise ModelError(
                say(
                    "base_model {file}: tensors of its {part} are missing. The file is incomplete, or base_config ({folder}) belongs to "
                    "another model.",
                    file=file,
                    part=name,
                    folder=config,
                )
            )
    tokenizers = [CLIPTokenizer.from_pretrained(config / name.replace("text_encoder", "tokenizer")) for name in names]
    scheduler = DDPMScheduler.from_pretrained(config, subfolder="scheduler")
    encoders = [loaded[name] for name in names]
    return Parts(family, loaded["unet"], loaded["vae"], encoders, tokenizers, scheduler, dtype), base


def _weights(file: Path, allow_pickle: bool) -> dict[str, Any]:
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

    _check_pickle(file, [file], allow_pickle)
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


# --- captions as the U-Net sees them -----------------------------------------------------------------------------------------


def token_ids(parts: Parts, caption: str, windows: int) -> Any:
    """int64 (text encoders, windows, 77): each window has its own beginning and end, as the WebUIs do it; what is longer is cut."""
    import torch

    rows = []
    for tokenizer in parts.tokenizers:
        ids = tokenizer(caption, add_special_tokens=False, verbose=False).input_ids[: WINDOW * windows]
        cut = [ids[i * WINDOW : (i + 1) * WINDOW] for i in range(windows)]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        whole = [[tokenizer.bos_token_id, *part, tokenizer.eos_token_id] for part in cut]
        rows.append([row + [pad] * (WINDOW + 2 - len(row)) for row in whole])
    return torch.tensor(rows)


def windows_of(parts: Parts, captions: Sequence[str]) -> int:
    """How many windows the longest of the captions needs."""
    longest = max((len(parts.tokenizers[0](c, add_special_tokens=False, verbose=False).input_ids) for c in captions), default=0)
    return max(1, -(-longest // WINDOW))


def embed(family: str, encoders: Sequence[Any], ids: Any, clip_skip: int) -> tuple[Any, Any]:
    """What the U-Net attends to.

    Args:
        ids: int64 (captions, text encoders, windows, 77).

    Returns:
        ((captions, windows * 77, width), (captions, width of the pooled text) or None).
    """
    import torch

    count, _, windows, length = ids.shape
    found, pooled = [], None
    for index, encoder in enumerate(encoders):
        given = ids[:, index].reshape(count * windows, length)
        out = encoder(given, output_hidden_states=True)
        if family == "sdxl":
            states = out.hidden_states[-2]
            if index == 1:
                pooled = out.text_embeds.view(count, windows, -1)[:, 0]
        elif clip_skip == 1:
            states = out.last_hidden_state
        else:
            inner = getattr(encoder, "text_model", encoder)  # transformers put the level away
            states = inner.final_layer_norm(out.hidden_states[-clip_skip])
        found.append(states.reshape(count, windows * length, -1))
    return torch.cat(found, -1), pooled
