"""Where ``prepare`` takes captions from: what is there already, or an image-to-text model (BLIP, GIT, Florence-2).

torch and transformers are imported when a model is first asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from loraforge import ModelError, fetch_base, speaker

from .loaders import _COLUMNS, _KOHYA, _METADATA, _decoded, _is_file, _rows
from .looking import Finding, Look
from .pictures import read_picture

say = speaker(__name__)

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
# What Florence-2 must be asked for; the others describe without being asked.
_TASKS = {"florence2": "<DETAILED_CAPTION>"}


def describe(
    folder: Path,
    looks: Sequence[Look],
    bare: Callable[[Look], str],
    captioner: str | None,
    progress: Callable[[str, int], AbstractContextManager[Callable[[], None]]],
) -> list[str]:
    """Gives every look its caption: of the metadata, of a file beside it, of kohya's folder name, of the captioner.

    Args:
        bare: the text of a picture without a caption; where an earlier call wrote it, there is still none.
        progress: makes a bar from what is done and how often; entered, it gives the function that moves it on by one.

    Returns:
        Rows of the metadata that name no picture.

    Raises:
        DataError: if the metadata cannot be read.
        ModelError: if the captioner cannot be used.
    """
    rows, bad = _earlier(folder)
    for seen in looks:
        row = rows.get(seen.path.resolve(), {})
        _kohya(seen, folder)
        seen.caption = " ".join(row.get("text", "").split()) or _beside(seen) or seen.caption
        if seen.caption == bare(seen):
            seen.caption = ""
        if re.fullmatch("[0-9]{1,4}", row.get("repeats", "").strip()):
            seen.repeats = int(row["repeats"])
        # With a reason beside it, it was our own proposal, which is made anew.
        if row.get("keep", "").strip().lower() in ("no", "n", "false", "0", "否", "不") and not row.get("why", "").strip():
            seen.findings.append(Finding("left_out", say("the earlier metadata leaves it out"), drops=True))
    if captioner:
        wanted = [seen.path for seen in looks if seen.keep and not seen.caption]
        with progress(say("writing captions"), len(wanted)) as tick:
            captions = write_captions(captioner, wanted, tick)
        for seen in looks:
            seen.caption = captions.get(seen.path, seen.caption)
    for seen in looks:
        if not seen.caption and seen.width and not any(f.kind == "caption_unreadable" for f in seen.findings):
            seen.findings.append(Finding("no_caption", say("no caption")))
    return bad


def _earlier(folder: Path) -> tuple[dict[Path, dict[str, str]], list[str]]:
    """The rows of the metadata that is there already: text, keep, why and repeats by the file's real path; and its bad rows.

    Raises:
        DataError: if there is one that cannot be read.
    """
    file = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    if file is None:
        return {}, []
    bad: list[str] = []
    rows = {}
    columns = {**_COLUMNS, "why": ("why",)}
    for where, row in _rows(file, bad):
        values = {key: str(next((row[n] for n in names if row.get(n) not in (None, "")), "")) for key, names in columns.items()}
        path = folder / values["file"].replace("\\", "/")
        if values["file"] and len(values["file"]) < 1000 and _is_file(path):
            rows[path.resolve()] = values
        else:
            bad.append(say("{where}: there is no file {name}.", where=where, name=values["file"] or "''"))
    return rows, bad


def _kohya(seen: Look, folder: Path) -> None:
    """Repeats and caption of a folder like ``10_a cat``: with a metadata.csv the loader reads folder names no more."""
    match = _KOHYA.match(seen.path.parent.name) if seen.path.parent != folder else None
    if match:
        seen.repeats = max(1, int(match[1]))
        seen.caption = match[2].replace("_", " ").strip()


def _beside(seen: Look) -> str:
    file = next((p for ending in (".txt", ".caption") if (p := seen.path.with_suffix(ending)).is_file()), None)
    if file is None:
        return ""
    try:
        text = _decoded(file.read_bytes())
        reason = say("it is neither UTF-8 nor GB18030 text; save it as UTF-8")
    except OSError as error:
        text, reason = None, str(error.strerror)
    if text is None:
        message = say("the caption file {file} cannot be read: {reason}", file=file.name, reason=reason)
        seen.findings.append(Finding("caption_unreadable", message))
        return ""
    return " ".join(text.split())


# --- the captioner --------------------------------------------------------------------------------------------------------------


class Captioner:
    """A captioning model that is loaded; code that comes with a model is never run.

    Args:
        model: a folder, or a repository of Hugging Face (``modelscope:`` in front for ModelScope).

    Raises:
        ModelError: if it is not there, has no safetensors, or is no image-to-text model.
    """

    def __init__(self, model: str) -> None:
        self.name = model
        folder = _folder(model)
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder, **options)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True, **options)
        except Exception as error:  # transformers raises whatever a damaged or foreign folder leads to
            raise ModelError(
                say(
                    "--captioner {model}: it cannot be loaded as an image-to-text model: {reason}. It must be a model like BLIP with "
                    "weights in safetensors.",
                    model=model,
                    reason=_reason(error),
                )
            ) from None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device).eval()

    def caption(self, path: Path) -> str:
        """What one picture shows, on one line; the same picture always gives the same words.

        Raises:
            DataError: if the picture cannot be read.
            ModelError: if the model cannot describe it.
        """
        import torch

        image = read_picture(path)
        task = _TASKS.get(str(self._model.config.model_type))
        try:
            inputs = self._processor(images=image, **({"text": task} if task else {}), return_tensors="pt").to(self._device)
            with torch.inference_mode():
                tokens = self._model.generate(**inputs, max_new_tokens=75, do_sample=False)
            text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        except Exception as error:  # as above
            raise ModelError(
                say("--captioner {model}: it cannot describe {file}: {reason}.", model=self.name, file=path.name, reason=_reason(error))
            ) from None
        return " ".join(str(text).split())


def write_captions(model: str, paths: Iterable[Path], tick: Callable[[], None]) -> dict[Path, str]:
    """Captions by path. Without pictures no model is loaded.

    Raises:
        ModelError: if the model cannot be used.
    """
    wanted = list(paths)
    if not wanted:
        return {}
    captioner = Captioner(model)
    captions = {}
    for path in wanted:
        captions[path] = captioner.caption(path)
        tick()
    return captions


def _folder(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise ModelError(
            say("--captioner {model}: there is no such folder, and a repository is called like Salesforce/blip-image-captioning-base.",
                model=model)
        )  # fmt: skip
    try:
        return fetch_base(model, None, _FILES)
    except ModelError as error:
        raise ModelError(say("--captioner {model}: {problem}", model=model, problem=error)) from None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")[:300]
