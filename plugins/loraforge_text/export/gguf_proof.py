# SPDX-License-Identifier: Apache-2.0
"""llama.cpp itself, asked what it makes of a finished GGUF file: whether it loads it, and the tokens of trained texts.

It runs in a process of its own, which it ends by itself where a file does not suit it.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loraforge import Adapter, ExportError, KeySet, LoraForgeError, RunConfig, speaker, why

from ..data.table_loader import TableKeys, TableLoader
from ..families.encoding import tokenizer_of
from ..records import Conversation, TextKeys
from .check import differing_prompts
from .folder import Served

say = speaker(__name__)

_CHILD = """
import sys, xllamacpp
asked = xllamacpp.CommonParams()
asked.model.path = sys.argv[1]
asked.n_ctx, asked.n_parallel, asked.n_gpu_layers, asked.port = 64, 1, 0, 0
asked.warmup = asked.fit_params = False
asked.no_extra_bufts = True  # no second copy of the weights in another order
asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds more
asked.verbosity = 1
asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(asked)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
_SECONDS = 600.0  # for one answer; a large file is read from a slow disk first

# What tells ways of splitting texts apart: digits, blanks, line ends, endings, scripts, marks, capitals. Nothing of Hindi or Thai, whose
# combining vowels llama.cpp's own programs for Mistral Nemo and GPT-4o take otherwise; data in them shows it.
_TELLING = (
    "12345678 3.14 ２０２６ Ⅳ ½",
    "a  b   c\t\td \n\n  e\r\n\r\n f  ",
    "I'll we'RE it'S don'T 'd he'll’s",
    "《劳动合同法》第八十二条：用人单位自用工之日起超过一个月不满一年……",
    "naïve Straße ÉCOLE iPhone HTMLParser camelCase x_y-z",
    "Привет мир! 안녕 こんにちは カタカナ ΑΒΓ αβγ",
    '!!! --- ... ??? ==> </b> {"k": [1, 2]} // # @user $5.00 50%',
    "😀 → ✓ © é",
)


def prove(of: Served, adapter: Adapter, file: Path) -> dict[str, int]:
    """Asks llama.cpp to load the file, and for the tokens of the golden prompts, of the data, and of some telling texts.

    Returns:
        How many texts of each were the same; no ``rows`` where the data cannot be read where it was.

    Raises:
        ExportError: if it does not load it, or makes other tokens; naming the first text.
    """
    require_llama_cpp()
    tokenizer = tokenizer_of(of.folder)
    with running(file) as asked:
        if problems := differing_prompts(of, adapter, asked):
            raise ExportError(
                [say("llama.cpp would read prompts otherwise than they were trained: {problem}", problem=p) for p in problems]
            )
        counts: dict[str, int] = {}
        for name, records in (("telling", _telling()), ("rows", _rows(of, adapter))):
            texts = [(one.where, text) for one in records if (text := _rendered(of, one)) is not None]
            for where, text in texts:
                _compare(where, text, list(tokenizer.encode(text, add_special_tokens=False).ids), asked.tokens(text))
            counts |= {name: len(texts)} if texts else {}
    return counts


def require_llama_cpp() -> None:
    """Raises ExportError, naming the extra, if llama.cpp is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ExportError(
            say(
                "a whole model as GGUF is proved with llama.cpp's own tokenizer, which is not installed ({name}): pip install "
                "'loraforge[gguf]'",
                name="xllamacpp",
            )
        )


def _compare(where: str, text: str, wanted: Sequence[int], got: Sequence[int]) -> None:
    if list(got) == list(wanted):
        return
    at = next((i for i, (one, two) in enumerate(zip(wanted, got, strict=False)) if one != two), min(len(wanted), len(got)))
    raise ExportError(
        say(
            "llama.cpp's tokenizer makes other tokens than training did, so no file was written. {where}, from token {at} on: {wanted} was "
            "trained, {got} is made. The text begins: {text!r}",
            where=where,
            at=at,
            wanted=list(wanted[at : at + 6]),
            got=list(got[at : at + 6]),
            text=text[:60],
        )
    )


# --- which texts ----------------------------------------------------------------------------------------------------------------


def _telling() -> Iterator[Conversation]:
    for number, text in enumerate(_TELLING, 1):
        yield Conversation(text, text, where=say("made-up text {n}", n=number))


def _rows(of: Served, adapter: Adapter) -> Sequence[Conversation]:
    """The rows of the data, as they are read today; none where they cannot be."""
    config: Mapping[str, Any] = adapter.facts.get("config") or {}
    if config.get("data_loader") not in (None, TableLoader.name):
        return ()
    try:
        run = RunConfig(**{key: value for key, value in config.items() if key in RunConfig.model_fields})
        owners: dict[Any, Any] = {RunConfig: run}
        for owner in (TableKeys, TextKeys):
            owners[owner] = owner(**{key: value for key, value in config.items() if key in owner.model_fields})
        return list(TableLoader().load(run, KeySet(owners), lambda _: None))
    except (LoraForgeError, OSError, ValueError):  # moved, or changed since
        return ()


def _rendered(of: Served, record: Conversation) -> str | None:
    try:
        return "".join(span.text for span in of.prompting.render(record))
    except LoraForgeError:  # a row that a check left out, or one that the template does not take
        return None


# --- llama.cpp ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(file: Path) -> Iterator[Asked]:
    """llama.cpp with the file loaded, for as long as the body runs.

    Raises:
        ExportError: if it does not load it.
    """
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            assert child.stdout is not None
            address = child.stdout.readline().decode().strip()
            if not address:
                log.seek(0)
                raise ExportError(say("llama.cpp does not load the file: {error}", error=_reason(log.read().decode("utf-8", "replace"))))
            yield Asked(address)
        finally:
            child.kill()
            child.communicate()


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() or "ASSERT" in line] or lines[-1:]
    return re.sub(r"^[\d. ]+E \S+: ", "", told[0])[:300] if told else "?"


class Asked:
    """A running llama.cpp, with what transformers' tokenizers are asked for."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_SECONDS)

    def tokens(self, text: str, *, whole: bool = False) -> list[int]:
        """
        Args:
            whole: with what llama.cpp puts around a prompt by itself.
        """
        asked = {"content": text, "add_special": whole, "parse_special": True}
        return [int(token) for token in self._post("/tokenize", asked)["tokens"]]

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], *, tools: Any = None, **_: Any) -> list[int]:
        """The tokens that the model would be given."""
        asked = {"messages": messages, **({"tools": tools} if tools else {})}
        return self.tokens(str(self._post("/apply-template", asked)["prompt"]), whole=True)

    def next_token(self, prompt: Sequence[int], most: int) -> dict[int, float]:
        """The log-probabilities of the likeliest ``most`` tokens behind a prompt."""
        asked = {"prompt": list(prompt), "n_predict": 1, "n_probs": most, "temperature": 0, "cache_prompt": False}
        [first] = self._post("/completion", asked)["completion_probabilities"]
        return {int(one["id"]): float(one["logprob"]) for one in first["top_logprobs"]}

    def _post(self, path: str, value: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._connection.request("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ExportError(say("llama.cpp stopped while it was asked: {error}", error=why(error))) from None
        if response.status != 200:
            raise ExportError(say("llama.cpp answers {code}: {text}", code=response.status, text=str(answer.get("error"))[:300]))
        return answer
