# SPDX-License-Identifier: Apache-2.0
"""A folder that ``ollama create`` takes: the adapter as GGUF, and a Modelfile with the prompt that was trained.

Ollama's templates are in Go's language, and no program turns Jinja into it. So what the trained template writes is looked at: before a
system message, around a question, between two turns, before the answer. If these pieces, put together, are what the template makes of
every golden prompt, they are written down in Go; if not, the export is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from loraforge import Adapter, Exporter, ExportError, Keys, KeySet, LoraForgeError, ModelFamily, RunConfig, command, prompt_of, speaker

from ..families.encoding import tokenizer_of
from ..records import Conversation
from ..templates import golden_prompts
from ..templates.prompting import Prompting
from .folder import Served, base_file, base_folder, file_name, served, without_base
from .llama_cpp import GgufExporter, write_lora

say = speaker(__name__)

_BESIDE = "./base.gguf"  # where the Modelfile looks for a base that has to be made
_LEAST_CONTEXT = 4096  # tokens; what most bases can read, and a conversation of some turns needs


class OllamaKeys(Keys):
    """The keys of the Ollama exporter."""

    ollama_from: str = Field(
        _BESIDE,
        description=(
            "The base for Ollama: a GGUF file, or the name of a model that Ollama has, which must be the very base. For a base_model that "
            "is a GGUF file it is that file unless something else is written."
        ),
        json_schema_extra={"option": True},
    )


class OllamaExporter(Exporter):
    """A folder for ``ollama create``."""

    name = "ollama"
    task = "text"
    help = "A folder that `ollama create` takes: the adapter as GGUF, and a Modelfile with the trained prompt and stop."
    keys = OllamaKeys

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        return _not_one_line(keys[OllamaKeys].ollama_from) or GgufExporter().refuses(config, keys)

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        return without_base(self.name, family, config)

    def export(self, adapter: Adapter, destination: Path) -> Path:
        if problem := _not_one_line(_from(adapter)):
            raise ExportError(problem)
        of = served(adapter)
        file = destination / f"{file_name(adapter)}.gguf"
        template = go_template(of, adapter.files.get(golden_prompts.NAME))
        write_lora(adapter, of.base.config, file)
        write_modelfile(of, adapter, (f"FROM {_from(adapter)}", f"ADAPTER ./{file.name}"), template, destination)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        name, own = file_name(adapter).lower(), _from(adapter) == _BESIDE
        # The base goes beside the Modelfile, and never into the run's folder, whose files are sealed.
        copy = f"ollama-{name}"  # the run itself may be called so, and stand there
        lines = [command("cp", "-r", path, copy), command("cd", copy)] if own else [command("cd", path)]
        if own:
            lines += [
                say("# the base as GGUF, once; or name a base that Ollama has, in the first line of Modelfile:"),
                command("python", "convert_hf_to_gguf.py", base_folder(adapter), "--outfile", "base.gguf"),
            ]
        return (*lines, command("ollama", "create", name, "-f", "Modelfile"), command("ollama", "run", name))


def _from(adapter: Adapter) -> str:
    """What the Modelfile names as the base."""
    written = str((adapter.facts.get("config") or {}).get("ollama_from") or _BESIDE)
    return str(base_file(adapter) or _BESIDE) if written == _BESIDE else written


def write_modelfile(of: Served, adapter: Adapter, files: Sequence[str], template: str, folder: Path) -> None:
    """``Modelfile`` in ``folder``.

    Args:
        files: its first lines, which name the weights.
        template: see ``go_template``.
    """
    config = adapter.facts.get("config") or {}
    part = of.base.config.get("text_config") or of.base.config
    positions = part.get("max_position_embeddings") or part.get("n_positions") or _LEAST_CONTEXT
    context = min(int(positions), max(_LEAST_CONTEXT, int(config.get("max_seq_length") or 0)))
    stops = [name for name, number in of.base.added.items() if number in of.stop_ids]
    lines = [
        *files,
        f'TEMPLATE """{template}"""',
        *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in sorted(stops, key=lambda stop: stop != of.stop)),
        f"PARAMETER num_ctx {context}",
        "PARAMETER temperature 0",
    ]
    (folder / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _not_one_line(base: str) -> str:
    """Each line of a Modelfile is a command."""
    return "" if base.isprintable() else say("ollama_from is more than one line")


@dataclass(frozen=True)
class _Pieces:
    """What a template writes around the texts of a conversation.

    Attributes:
        first: before the first question, without a system message.
        system: before a system message; None if there can be none.
        asked: between a system message and the first question.
        answers: between a question and its answer, in an earlier turn.
        asks: between an answer and the next question.
        end: after the last question.
    """

    first: str
    system: str | None
    asked: str
    answers: str
    asks: str
    end: str

    def written(self, messages: Sequence[dict[str, str]]) -> str | None:
        """The prompt for these messages; None if it cannot be said."""
        said, text = list(messages), self.first
        if said and said[0]["role"] == "system":
            if self.system is None:
                return None
            text = self.system + said.pop(0)["content"] + self.asked
        if [one["role"] for one in said] != ["user", "assistant"] * (len(said) // 2) + ["user"]:
            return None
        for question, answer in zip(said[:-1:2], said[1::2], strict=True):
            text += question["content"] + self.answers + answer["content"] + self.asks
        return text + said[-1]["content"] + self.end

    def in_go(self, bos: str) -> str:
        """The same as a template of Ollama's.

        Args:
            bos: what Ollama itself puts in front of a prompt.
        """
        first, system = self.first.removeprefix(bos), (self.system or "").removeprefix(bos)
        before = _go(first)
        with_system = f'{{{{ if eq .Role "system" }}}}{_go(system)}{{{{ .Content }}}}{_go(self.asked)}{{{{ else }}}}'
        parts = [
            "{{- range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}",
            with_system if self.system is not None else "",
            f'{{{{ if eq .Role "user" }}}}{{{{ if eq $i 0 }}}}{before}{{{{ end }}}}{{{{ .Content }}}}',
            f"{{{{ if $last }}}}{_go(self.end)}{{{{ else }}}}{_go(self.answers)}{{{{ end }}}}",
            f"{{{{ else }}}}{{{{ .Content }}}}{_go(self.asks)}{{{{ end }}}}",
            "{{ end }}" if self.system is not None else "",
            "{{- end }}",
        ]
        return "".join(parts)


def _go(text: str) -> str:
    """A text as Go writes it, so that no blank of it is dropped and nothing in it is obeyed."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""


def go_template(of: Served, golden: bytes | None) -> str:
    """The trained prompt as a template of Ollama's.

    Args:
        golden: the run's golden prompts.

    Raises:
        ExportError: if the prompt cannot be said in it.
    """
    pieces = _pieces(of.prompting)
    known = [(one["messages"], one["text"]) for one in json.loads(golden)["prompts"] if not one.get("tools")] if golden else []
    # Some templates take the blanks off a text, which Ollama's language cannot.
    known = [(messages, text) for messages, text in known if all(one["content"] == one["content"].strip() for one in messages)]
    wrong = [messages for messages, text in [*known, *_probes(of.prompting)] if pieces is None or pieces.written(messages) != text]
    if pieces is None or wrong:
        raise ExportError(
            say(
                "the prompt that was trained cannot be said in Ollama's language, as it depends on more than who speaks. Use "
                "`export: [gguf]` with llama-server, which takes the chat template as it is."
            )
        )
    return pieces.in_go(_bos(of, pieces))


def _bos(of: Served, pieces: _Pieces) -> str:
    """What the base's tokenizer puts in front of a prompt by itself, as llama.cpp and Ollama then do.

    Raises:
        ExportError: if the trained prompts do not begin so.
    """
    tokenizer = tokenizer_of(of.folder)
    if tokenizer is None:
        return ""
    ids, plain = (tokenizer.encode("a", add_special_tokens=added).ids for added in (True, False))
    place = next((at for at in range(len(ids)) if ids[at : at + len(plain)] == plain), 0)
    bos = "".join(str(tokenizer.id_to_token(one)) for one in ids[:place])
    if bos and not all(text is None or text.startswith(bos) for text in (pieces.first, pieces.system)):
        raise ExportError(
            say("Ollama would put {bos} in front of each prompt, as the base's tokenizer does; the trained prompts have none.", bos=bos)
        )
    return bos


_SYSTEM, _FIRST, _SAID, _SECOND = "Sjuk9 ip", "Qzeh7 xo", "Awyx5 ob", "Rdof3 um"  # words that occur in no template


def _asked(prompting: Prompting, system: str | None, *said: str) -> str | None:
    """The trained prompt for a conversation; None if the template does not take it."""
    history = tuple(zip(said[0:-1:2], said[1:-1:2], strict=True))
    try:
        return prompt_of(prompting.render(Conversation(said[-1], "answer", system=system, history=history, where="")))
    except LoraForgeError:
        return None


def _pieces(prompting: Prompting) -> _Pieces | None:
    alone, turns = _asked(prompting, None, _FIRST), _asked(prompting, None, _FIRST, _SAID, _SECOND)
    if alone is None or turns is None or alone.count(_FIRST) != 1:
        return None
    first, _, end = alone.partition(_FIRST)
    rest = turns.removeprefix(first + _FIRST).removesuffix(_SECOND + end)
    if len(rest) + len(first + _FIRST + _SECOND + end) != len(turns) or rest.count(_SAID) != 1:
        return None
    answers, _, asks = rest.partition(_SAID)
    with_system = _asked(prompting, _SYSTEM, _FIRST)
    if with_system is None or with_system.count(_SYSTEM) != 1 or not with_system.endswith(_FIRST + end):
        return _Pieces(first, None, "", answers, asks, end)
    system, _, asked = with_system.removesuffix(_FIRST + end).partition(_SYSTEM)
    return _Pieces(first, system, asked, answers, asks, end)


def _probes(prompting: Prompting) -> list[tuple[list[dict[str, str]], str]]:
    """Conversations of no data: with and without a system message and earlier turns."""
    found = []
    for system in (None, "Be brief."):
        for said in (("Second?",), ("First?", "Yes.", "Second?"), ("1", "2", "3\n\n4", "5", "6")):
            text = _asked(prompting, system, *said)
            messages = [{"role": "system", "content": system}] if system else []
            messages += [{"role": "assistant" if i % 2 else "user", "content": one} for i, one in enumerate(said)]
            if text is not None:
                found.append((messages, text))
    return found
