# SPDX-License-Identifier: Apache-2.0
"""The models behind ``--captioner``: image-to-text models (BLIP, GIT, Florence-2), chat models that see (Qwen-VL, JoyCaption), WD taggers.

torch and transformers are imported when a model is first asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import ModelError, fetch_base, require_files, speaker

from ..data.pictures import read_picture
from .tagging import Tagger, TagSettings, is_tagger

say = speaker(__name__)

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "model.onnx", "selected_tags.csv")
# What Florence-2 must be asked for; BLIP and GIT describe without being asked.
_TASKS = {"florence2": "<DETAILED_CAPTION>"}
PROMPT = "Describe this picture for a text-to-image model in one paragraph: what it shows, how it is composed, the light, the style."
_TOKENS, _CHAT_TOKENS = 75, 512
_PIXELS = 1280 * 1280  # more makes thousands of tokens of one picture (musubi-tuner's bound)
_LACKING = re.compile(r"requires the (\w+) library")  # how transformers says which package is not there
_THOUGHTS = re.compile(r"^.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class CaptionerSettings:
    """How a captioner is asked.

    Attributes:
        prompt: what a chat model is told; None for ``PROMPT``.
        tokens: the longest caption; None for 75, of chat models 512.
        tags: which tags a tagger writes; None for its defaults.
    """

    prompt: str | None = None
    tokens: int | None = None
    tags: TagSettings | None = field(default=None)


class Captioner:
    """A captioning model that is loaded; code that comes with a model is never run.

    Args:
        folder: its files.
        called: what the user wrote, for messages.

    Attributes:
        cut: the names of the pictures whose caption ended at the limit.

    Raises:
        ModelError: if it has no safetensors, is no image-to-text model, or is asked for what it cannot do.
    """

    def __init__(self, folder: Path, called: str, settings: CaptionerSettings) -> None:
        self.name, self.cut = called, list[str]()
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            require_files(folder)
            self._processor: Any = AutoProcessor.from_pretrained(folder, **options)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True, **options)
        except Exception as error:  # transformers raises whatever a damaged or foreign folder leads to
            if isinstance(error, ImportError) and (package := _LACKING.search(str(error))):
                raise ModelError(
                    say(
                        "--captioner {model}: its processor needs the package {package}: pip install {package}, from where torch was "
                        "installed.",
                        model=called,
                        package=package[1].lower(),
                    )
                ) from None
            raise ModelError(
                say(
                    "--captioner {model}: it cannot be loaded as an image-to-text model: {reason}. It must be a model like BLIP or Qwen-VL "
                    "with weights in safetensors, or a WD tagger with model.onnx and selected_tags.csv.",
                    model=called,
                    reason=_reason(error),
                )
            ) from None
        self._chats = bool(getattr(self._processor, "chat_template", None))
        if settings.prompt is not None and not self._chats:
            raise ModelError(
                say("--caption-prompt: {model} is no chat model and cannot be told what to write. Leave it out.", model=called)
            )
        self._prompt = settings.prompt or PROMPT
        self._asking: str | None = None
        self._tokens = settings.tokens or (_CHAT_TOKENS if self._chats else _TOKENS)
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
        try:
            inputs = self._asked(_smaller(image) if self._chats else image).to(self._device, self._model.dtype)
            with torch.inference_mode():
                tokens = self._model.generate(**inputs, max_new_tokens=self._tokens, do_sample=False)
            if self._chats:
                tokens = tokens[:, inputs["input_ids"].shape[1] :]
                if tokens.shape[1] >= self._tokens and int(tokens[0, -1]) not in self._ends():
                    self.cut.append(path.name)
            text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        except Exception as error:  # as above
            raise ModelError(
                say("--captioner {model}: it cannot describe {file}: {reason}.", model=self.name, file=path.name, reason=_reason(error))
            ) from None
        return " ".join(_THOUGHTS.sub("", str(text)).split())

    def _asked(self, image: Image.Image) -> Any:
        """What the model is given."""
        if self._chats:
            self._asking = self._asking or self._question()
            return self._processor(text=[self._asking], images=[image], return_tensors="pt")
        task = _TASKS.get(str(self._model.config.model_type))
        return self._processor(images=image, **({"text": task} if task else {}), return_tensors="pt")

    def _question(self) -> str:
        """The prompt in the model's chat template, with the picture's place. Templates want a list of parts, or, such as JoyCaption's, a
        text."""
        place = str(getattr(self._processor, "image_token", "") or "<image>")
        wanted: list[Any] = [[{"type": "image"}, {"type": "text", "text": self._prompt}], self._prompt, f"{place}\n{self._prompt}"]
        # A model that thinks before it answers is told not to; what knows no such switch would warn of it.
        quiet = {"enable_thinking": False} if "enable_thinking" in str(self._processor.chat_template) else {}
        failed: Exception | None = None
        for content in wanted:
            try:
                made = self._processor.apply_chat_template(
                    [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **quiet
                )
            except Exception as error:  # what a template of Jinja raises
                failed = error
                continue
            if place in made and self._prompt in made and "'type'" not in made:
                return str(made)
        raise failed or ValueError(say("its chat template has no place for a picture"))

    def _ends(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        return set(ends) if isinstance(ends, list) else {ends} if ends is not None else set()


def write_captions(
    model: str, settings: CaptionerSettings, paths: Iterable[Path], tick: Callable[[], None], note: Callable[[str], None]
) -> dict[Path, str]:
    """Captions by path. Without pictures no model is loaded.

    Args:
        model: a folder, or a repository of Hugging Face (``modelscope:`` in front for ModelScope).

    Raises:
        ModelError: if the model cannot be used.
    """
    wanted = list(paths)
    if not wanted:
        return {}
    folder = _folder(model)
    if is_tagger(folder):
        if settings.prompt is not None or settings.tokens is not None:
            raise ModelError(
                say("--caption-prompt, --caption-tokens: {model} is a tagger, which writes tags. Leave them out.", model=model)
            )
        captioner: Tagger | Captioner = Tagger(folder, model, settings.tags or TagSettings())
    else:
        if settings.tags is not None:
            raise ModelError(
                say("--tag-threshold, --character-threshold, --undesired-tags: {model} is no tagger. Leave them out.", model=model)
            )
        captioner = Captioner(folder, model, settings)
    captions = {}
    for path in wanted:
        captions[path] = captioner.caption(path)
        tick()
    if isinstance(captioner, Captioner) and captioner.cut:
        note(
            say(
                "{n} captions end at the limit of {tokens} tokens, in the middle of a sentence perhaps; --caption-tokens raises it",
                n=len(captioner.cut),
                tokens=captioner._tokens,
            )
        )
    return captions


def _smaller(image: Image.Image) -> Image.Image:
    """The picture with as many pixels as chat models are to see."""
    shrink = math.sqrt(_PIXELS / (image.width * image.height))
    if shrink >= 1:
        return image
    return image.resize((max(28, round(image.width * shrink)), max(28, round(image.height * shrink))), Image.Resampling.LANCZOS)


def _folder(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    meant = path.exists() or path.is_absolute() or model.startswith((".", "~")) or (path.parent != Path(".") and path.parent.is_dir())
    if meant or model.count("/") != 1:
        raise ModelError(
            say("--captioner {model}: there is no such folder, and a repository is called like Salesforce/blip-image-captioning-base.",
                model=model)
        )  # fmt: skip
    return fetch_base(model, None, _FILES, (), "--captioner")


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")[:300]
