# SPDX-License-Identifier: Apache-2.0
"""Malformed pictures, captions, metadata and LoRA files: what damage, foreign programs and ill will make of them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image


def _saved(kind: str, size=(96, 80), mode: str = "RGB", **options) -> bytes:
    image = Image.effect_noise(size, 90).convert(mode)
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


# --- PNG, chunk by chunk ------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png(width: int, height: int, body: bytes, *more: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of claimed size with a given compressed body; ``more``: chunks before it."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zero bytes, compressed, without ever making them: one block, repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = rest.compress(bytes(count % (1 << 20))) + rest.flush()
    return b"\x78\xda" + block * (count >> 20) + last + struct.pack(">I", (count % 65521) << 16 | 1)


def flat_png(side: int) -> bytes:
    """A white-noise-free square that unpacks a thousandfold."""
    return png(side, side, zeros(side * (3 * side + 1)))


_ROWS = zlib.compress(bytes(64 * (64 * 3 + 1)))


def gif_frames(count: int) -> bytes:
    """One frame of 16 x 16, repeated."""
    whole = _saved("GIF", (16, 16), "P")
    start = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:start] + whole[start:-1] * count + b";"


def _jpeg_with(marker: int, data: bytes) -> bytes:
    whole = _saved("JPEG")
    return whole[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + whole[2:]


def _cut(kind: str, share: float, **options) -> bytes:
    whole = _saved(kind, **options)
    return whole[: max(1, int(len(whole) * share))]


def _flipped(kind: str, places: range) -> bytes:
    """A picture with the bytes at these places inverted."""
    whole = bytearray(_saved(kind))
    for place in places:
        if place < len(whole):
            whole[place] ^= 0xFF
    return bytes(whole)


_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(/tmp/x) (w) file closefile\nshowpage\n%%EOF\n"
_SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><script>alert(1)</script></svg>'

# name -> content. None of these is a picture that can be used.
BROKEN: Mapping[str, Callable[[], bytes]] = {
    **{
        f"cut-{int(share * 100)}.{kind.lower()}": (lambda k=kind, s=share: _cut(k, s))
        for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
        for share in (0.0, 0.1, 0.5)
    },
    "cut-half.avif": lambda: _cut("AVIF", 0.5),
    "empty.png": lambda: b"",
    "one-byte.jpg": lambda: b"\xff",
    "zeros.png": lambda: bytes(4096),
    "signature-only.png": lambda: b"\x89PNG\r\n\x1a\n",
    "text.png": lambda: b"This is a shopping list.\n" * 40,
    "html.jpg": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
    "svg.png": lambda: _SVG,
    "postscript.png": lambda: _EPS,
    "heic.jpg": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "psd.png": lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(200),
    "wmf.png": lambda: b"\xd7\xcd\xc6\x9a" + bytes(60),
    "fits.png": lambda: b"SIMPLE  =                    T".ljust(2880),
    "pickle.png": lambda: b"\x80\x04\x95" + bytes(40),
    "zip.png": lambda: b"PK\x03\x04" + bytes(100),
    "bomb-50000.png": lambda: png(50_000, 50_000, zeros(9_000_000)),
    "bomb-flat.png": lambda: flat_png(16_000),
    "bomb-2-31.png": lambda: png(2**31 - 1, 2**31 - 1, _ROWS),
    "bomb.bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16),
    "bomb.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00;",
    "bomb.tiff": lambda: _tiff(400_000, 400_000),
    "bomb.webp": lambda: b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8L" + struct.pack("<I", 10) + b"\x2f\xff\xff\xff\x0f" + bytes(9),
    "zero-wide.png": lambda: png(0, 64, _ROWS),
    "negative.bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, -64, 64, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16),
    "text-bomb.png": lambda: png(64, 64, _ROWS, chunk(b"zTXt", b"Comment\0\0" + zeros(200_000_000))),
    "many-texts.png": lambda: png(64, 64, _ROWS, *[chunk(b"zTXt", b"k%d\0\0" % i + zeros(900_000)) for i in range(90)]),
    "crc.png": lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0), 1) + chunk(b"IDAT", _ROWS),
    "idat-garbage.png": lambda: png(64, 64, b"\x78\x9c" + b"\xa5" * 900),
    "idat-short.png": lambda: png(640, 640, zlib.compress(b"\0" * 100)),
    "idat-missing.png": lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)) + chunk(b"IEND", b""),
    "bit-depth.png": lambda: png(64, 64, _ROWS, depth=7),
    "chunk-length.png": lambda: b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31) + b"IHDR" + bytes(40),
    "head-flipped.jpg": lambda: _flipped("JPEG", range(2, 60)),
    "head-flipped.webp": lambda: _flipped("WEBP", range(8, 40)),
    "head-flipped.tiff": lambda: _flipped("TIFF", range(4, 8)),
    "one-pixel.png": lambda: _saved("PNG", (1, 1)),
    "one-wide.png": lambda: _saved("PNG", (1, 3000)),
    "one-high.jpg": lambda: _saved("JPEG", (3000, 1)),
}  # fmt: skip


def _tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
               (278, 4, 1, height), (279, 4, 1, 2**32 - 1)]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + packed + struct.pack("<I", 8)  # and a loop of pages


def _palette() -> bytes:
    return _saved("PNG", (96, 80), "P", transparency=3)


# Strange, and yet pictures: they are taken, or refused in a sentence, but never fatal.
ODD: Mapping[str, Callable[[], bytes]] = {
    "frames-100000.gif": lambda: gif_frames(100_000),
    "sixteen.png": lambda: png(64, 64, zlib.compress(bytes(64 * (64 * 6 + 1))), depth=16),
    "cmyk.jpg": lambda: _saved("JPEG", mode="CMYK"),
    "palette.png": _palette,
    "grey.png": lambda: _saved("PNG", mode="L"),
    "bilevel.tiff": lambda: _saved("TIFF", mode="1"),
    "floats.tiff": lambda: _saved("TIFF", mode="F"),
    "jpeg-as.png": lambda: _saved("JPEG"),
    "profile-bomb.png": lambda: png(64, 64, _ROWS, chunk(b"iCCP", b"p\0\0" + zeros(200_000_000))),
    "profile-garbage.jpg": lambda: _jpeg_with(0xE2, b"ICC_PROFILE\0\x01\x01" + b"\x55" * 300),
    "profile-parts.jpg": lambda: _jpeg_with(0xE2, b"ICC_PROFILE\0\xfe\xff" + b"\x55" * 300),
    "exif-garbage.jpg": lambda: _jpeg_with(0xE1, b"Exif\0\0" + b"\xa5" * 400),
    "exif-loop.jpg": lambda: _jpeg_with(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)),
    "exif-far.jpg": lambda: _jpeg_with(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8825, 2, 2**32 - 1, 2**32 - 9) + bytes(4)),
    "exif-orientation.jpg": lambda: _jpeg_with(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 1, 999) + bytes(4)),
    "exif-count.jpg": lambda: _jpeg_with(0xE1, b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 65535) + bytes(300)),
    "mpf.jpg": lambda: _jpeg_with(0xE2, b"MPF\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0xB001, 4, 1, 2**31) + bytes(4)),
    "tail-cut.jpg": lambda: _cut("JPEG", 0.97),
    "crc-of-end.png": lambda: _saved("PNG")[:-4] + b"\0\0\0\0",
    "trailing.png": lambda: _saved("PNG") + b"PK\x03\x04" + bytes(9000),
    "xmp.jpg": lambda: _jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><x>&b;</x>"),
}  # fmt: skip


# --- metadata and captions ----------------------------------------------------------------------------------------------------

_NAMES = (
    "../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.png", "C:\\Windows\\win.ini", "..\\..\\a.png",
    "\\\\server\\share\\a.png", "pictures/../../outside.png", "~/a.png", "%2e%2e/outside.png", "a.png\0.txt", "a" * 5000, "con", "|id", "$(id).png",
    "{0.__class__}", "gone.png", "../outside.png",
)  # fmt: skip


def _lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


# (file, content). Beside them lies a good picture, a.png.
METADATA: Mapping[str, tuple[str, bytes]] = {
    **{f"name-{i}": ("metadata.jsonl", _lines({"file_name": name, "text": "x"})) for i, name in enumerate(_NAMES)},
    "latin-1": ("metadata.csv", b"file_name,text\na.png,caf\xe9 \xff\xfe\xfd\n"),
    "nul": ("metadata.csv", b"file_name,text\na.png,\0\0\0x\n"),
    "bytes": ("metadata.csv", bytes(range(256)) * 20),
    "utf-16-odd": ("metadata.csv", "file_name,text\na.png,x\n".encode("utf-16") + b"x"),
    "empty": ("metadata.csv", b""),
    "head-only": ("metadata.csv", b"file_name,text\n"),
    "no-column": ("metadata.csv", b"x,y\na.png,b\n"),
    "quote-open": ("metadata.csv", b'file_name,text\n"a.png,' + b"x" * 20_000_000),
    "long-line": ("metadata.jsonl", b'{"file_name": "a.png", "text": "' + b"x" * 3_000_000),
    "no-object": ("metadata.jsonl", b'[1, 2]\n"x"\nnull\n7\n'),
    "no-json": ("metadata.jsonl", b"file_name: a.png\n"),
    "cut": ("metadata.jsonl", b'{"file_name": "a.png", "te'),
    "deep": ("metadata.jsonl", b"[" * 100_000 + b"\n"),
    "deep-object": ("metadata.jsonl", b'{"a":' * 100_000 + b"\n"),
    "deep-file": ("metadata.json", b"[" * 100_000),
    "digits": ("metadata.jsonl", b'{"file_name": "a.png", "text": "x", "repeats": ' + b"9" * 9000 + b"}"),
    "many-digits": ("metadata.json", b"[" + b"9" * 9000 + b"]"),
    "types": ("metadata.jsonl", _lines({"file_name": ["a.png"], "text": 1}, {"file_name": {"a": 1}, "text": []}, {"file_name": 5})),
    "surrogate": ("metadata.jsonl", b'{"file_name": "\\ud800.png", "text": "x"}'),
    "repeats": ("metadata.csv", b"file_name,text,repeats\na.png,x,99999999999\n"),
    "repeats-negative": ("metadata.csv", b"file_name,text,repeats\na.png,x,-3\n"),
    "twice": ("metadata.csv", b"file_name,text\na.png,x\n./a.png,y\n"),
    "no-caption": ("metadata.csv", b"file_name,text\na.png,\n"),
    "approved": ("metadata.csv", b"file_name,text,approved\na.png,x,perhaps\n"),
    "scalar": ("metadata.json", b"7"),
    "caption-bytes": ("a.txt", b"\x81\xff\xfe\xfd\x80"),
    "caption-nul": ("a.txt", b"a\0b"),
    "caption-empty": ("a.txt", b""),
    "caption-huge": ("a.txt", b"a cat, " * 2_000_000),
    "caption-utf-16-odd": ("a.txt", b"\xff\xfea"),
}  # fmt: skip


# --- safetensors --------------------------------------------------------------------------------------------------------------


def safetensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


def tensor(kind: str, shape: list[Any], start: int, end: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


_DOWN, _UP = "lora_unet_x_to_q.lora_down.weight", "lora_unet_x_to_q.lora_up.weight"
_GOOD = {_DOWN: tensor("F32", [2, 3], 0, 24), _UP: tensor("F32", [3, 2], 24, 48)}

BAD_LORAS: Mapping[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "seven-bytes": lambda: b"\0" * 7,
    "no-header": lambda: b"\0" * 8,
    "length-past-end": lambda: safetensors(_GOOD, bytes(48), 10**6),
    "length-100-mb": lambda: safetensors(_GOOD, bytes(48), 100_000_000),
    "length-2-63": lambda: safetensors(_GOOD, bytes(48), 2**63),
    "length-short": lambda: safetensors(_GOOD, bytes(48), 20),
    "json-garbage": lambda: safetensors(b"\xff\xfe{{{" * 20),
    "json-list": lambda: safetensors([1, 2, 3]),
    "json-number": lambda: safetensors(7),
    "json-cut": lambda: safetensors(json.dumps(_GOOD).encode()[:-5]),
    "json-deep": lambda: safetensors(b'{"a":' * 50_000),
    "json-deep-list": lambda: safetensors(b'{"__metadata__":{"a":' + b"[" * 50_000),
    "overlap": lambda: safetensors({_DOWN: tensor("F32", [2, 3], 0, 24), _UP: tensor("F32", [3, 2], 0, 24)}, bytes(48)),
    "hole": lambda: safetensors({_DOWN: tensor("F32", [2, 3], 0, 24), _UP: tensor("F32", [3, 2], 30, 54)}, bytes(54)),
    "backwards": lambda: safetensors({_DOWN: tensor("F32", [2, 3], 24, 0)}, bytes(24)),
    "past-end": lambda: safetensors({_DOWN: tensor("F32", [2, 3], 0, 24)}, bytes(8)),
    "trailing": lambda: safetensors(_GOOD, bytes(4800)),
    "negative-shape": lambda: safetensors({_DOWN: tensor("F32", [-2, -3], 0, 24)}, bytes(24)),
    "huge-shape": lambda: safetensors({_DOWN: tensor("F32", [2**40, 2**40], 0, 24)}, bytes(24)),
    "shape-text": lambda: safetensors({_DOWN: tensor("F32", ["2", 3], 0, 24)}, bytes(24)),
    "shape-float": lambda: safetensors({_DOWN: tensor("F32", [2.5, 3], 0, 24)}, bytes(24)),
    "shape-disagrees": lambda: safetensors({_DOWN: tensor("F32", [9, 9], 0, 24)}, bytes(24)),
    "dtype-unknown": lambda: safetensors({_DOWN: tensor("F77", [2, 3], 0, 24)}, bytes(24)),
    "dtype-number": lambda: safetensors({_DOWN: {**tensor("F32", [2, 3], 0, 24), "dtype": 7}}, bytes(24)),
    "offsets-text": lambda: safetensors({_DOWN: {"dtype": "F32", "shape": [2, 3], "data_offsets": ["0", "24"]}}, bytes(24)),
    "offsets-missing": lambda: safetensors({_DOWN: {"dtype": "F32", "shape": [2, 3]}}, bytes(24)),
    "offsets-huge": lambda: safetensors({_DOWN: tensor("F32", [2, 3], 2**63, 2**64 - 1)}, bytes(24)),
    "entry-text": lambda: safetensors({_DOWN: "F32"}, bytes(24)),
    "metadata-numbers": lambda: safetensors({"__metadata__": {"ss_steps": 7, "x": [1]}, **_GOOD}, bytes(48)),
    "metadata-list": lambda: safetensors({"__metadata__": [1], **_GOOD}, bytes(48)),
    "no-tensors": lambda: safetensors({"__metadata__": {"a": "b"}}),
    "no-lora": lambda: safetensors({"weight": tensor("F32", [2, 3], 0, 24)}, bytes(24)),
    "four-bit": lambda: safetensors({_DOWN: tensor("F4", [2, 4], 0, 4), _UP: tensor("F4", [4, 2], 4, 8)}, bytes(8)),
    "many-tensors": lambda: safetensors({f"lora_unet_{i}.lora_down.weight": tensor("F32", [0], 0, 0) for i in range(110_000)}),
    "picture": lambda: _saved("PNG"),
    "pickle": lambda: b"\x80\x02cos\nsystem\nX\x02\0\0\0idq\0\x85R.",
    "zip-pickle": lambda: b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + bytes(50),
    "zip": lambda: b"PK\x03\x04" + bytes(300),
    "lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
}  # fmt: skip


def _told(**metadata: str) -> bytes:
    return safetensors({"__metadata__": metadata, **_GOOD}, bytes(48))


# Good tensors under metadata of ill will: judged all the same.
ODD_LORAS: Mapping[str, Callable[[], bytes]] = {
    "tags-deep": lambda: _told(ss_tag_frequency='{"a":' * 50_000),
    "tags-list": lambda: _told(ss_tag_frequency="[" * 50_000),
    "tags-types": lambda: _told(ss_tag_frequency='{"a": [1], "b": {"x": "y", "z": -1, "t": true, "u": 1e999}}'),
    "tags-many": lambda: _told(ss_tag_frequency=json.dumps({"a": {f"t{i}": 1 for i in range(200_000)}})),
    "digits": lambda: _told(ss_tag_frequency='{"a": {"x": ' + "9" * 9000 + "}}", ss_training_started_at="9" * 400),
    "escapes": lambda: _told(ss_sd_model_name="\x1b]0;owned\x07\x1b[2J[bold]x[/bold]\r\n\u202e", **{"modelspec.trigger_phrase": "a\x1b[31m,\nb"}),
    "patterns-many": lambda: _told(lora_adapter_metadata=json.dumps({"unet.alpha_pattern": {f"^x{i}$": 1 for i in range(100_000)}})),
    "patterns-types": lambda: _told(lora_adapter_metadata='{"lora_alpha": [1], "alpha_pattern": {"x": {}, "to_q": "1"}, "use_rslora": 3}'),
    "thumbnail": lambda: _told(**{"modelspec.thumbnail": "data:image/png;base64," + "A" * 5_000_000}),
    "twice": lambda: safetensors(json.dumps(_GOOD).encode()[:-1] + b", " + json.dumps({_DOWN: _GOOD[_DOWN]}).encode()[1:], bytes(48)),
    "name-long": lambda: safetensors({"x" * 100_000 + ".lora_down.weight": tensor("F32", [2, 3], 0, 24)}, bytes(24)),
    "name-escapes": lambda: safetensors({"\x1b[2J\n.lora_down.weight": tensor("F32", [2, 3], 0, 24)}, bytes(24)),
    "shapes-zero": lambda: safetensors({_DOWN: tensor("F32", [0, 2**40], 0, 0), _UP: tensor("F32", [2**40, 0], 0, 0)}),
    "ranks-differ": lambda: safetensors({_DOWN: tensor("F32", [2, 3], 0, 24), _UP: tensor("F32", [2, 3], 24, 48)}, bytes(48)),
    "scalar-down": lambda: safetensors({_DOWN: tensor("F32", [], 0, 4), _UP: tensor("F32", [], 4, 8)}, bytes(8)),
    "booleans": lambda: safetensors({_DOWN: tensor("BOOL", [2, 3], 0, 6), _UP: tensor("BOOL", [3, 2], 6, 12)}, bytes(12)),
    "blocks-numbered": lambda: safetensors({f"lora_unet_input_blocks_{'9' * 5000}_1_to_q.{e}.weight": tensor("F32", [2, 2], o, o + 16)
                                            for e, o in (("lora_down", 0), ("lora_up", 16))}, bytes(32)),
    "nan": lambda: safetensors(_GOOD, struct.pack("<f", float("nan")) * 12),
}  # fmt: skip


def place(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


# --- bases --------------------------------------------------------------------------------------------------------------------

_FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def _checkpoint(**changes: Any) -> dict[str, Any]:
    """The header of a checkpoint of Stable Diffusion 1, as far as it is looked at."""
    return {_FIRST: tensor("F32", [320, 4, 3, 3], 0, 4), "cond_stage_model.transformer.x": tensor("F32", [1], 4, 8), **changes}


# Single files that `check` refuses from their header.
BAD_FILES: Mapping[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "cut": lambda: b"\x08\0\0",
    "length-lie": lambda: safetensors(_checkpoint(), bytes(8), 99_000_000),
    "length-2-63": lambda: safetensors(_checkpoint(), bytes(8), 2**63),
    "garbage": lambda: safetensors(b"\xff\xfe{" * 9),
    "list": lambda: safetensors([1]),
    "deep": lambda: safetensors(b"[" * 100_000),
    "digits": lambda: safetensors(b'{"a": ' + b"9" * 9000 + b"}"),
    "large-header": lambda: safetensors(b'{"a": "' + b"x" * 30_000_000 + b'"}'),
    "lora": lambda: safetensors(_GOOD, bytes(48)),
    "other": lambda: safetensors({"weight": tensor("F32", [1], 0, 4)}, bytes(4)),
    "inpainting": lambda: safetensors(_checkpoint(**{_FIRST: tensor("F32", [320, 9, 3, 3], 0, 4)}), bytes(8)),
    "shape-number": lambda: safetensors(_checkpoint(**{_FIRST: tensor("F32", 5, 0, 4)}), bytes(8)),  # type: ignore[arg-type]
    "shape-text": lambda: safetensors(_checkpoint(**{_FIRST: tensor("F32", ["a"] * 4, 0, 4)}), bytes(8)),
    "shape-nested": lambda: safetensors(_checkpoint(**{_FIRST: tensor("F32", [[4]] * 4, 0, 4)}), bytes(8)),
    "entries-numbers": lambda: safetensors({_FIRST: 7, "cond_stage_model.transformer.x": None}),
    "no-encoder": lambda: safetensors({_FIRST: tensor("F32", [320, 4, 3, 3], 0, 4)}, bytes(4)),
    "refiner": lambda: safetensors({_FIRST: tensor("F32", [320, 4, 3, 3], 0, 4), "conditioner.embedders.0.x": {}}, bytes(4)),
    "body-missing": lambda: safetensors(_checkpoint()),
    "picture": lambda: _saved("PNG"),
}  # fmt: skip

_UNET = "unet/config.json"
# What is changed in a diffusers folder: (file, key or None for the whole file, value).
BAD_CONFIGS: Mapping[str, tuple[str, str | None, Any]] = {
    "unet-garbage": (_UNET, None, b"\xff\xfe{"),
    "unet-list": (_UNET, None, b"[1, 2]"),
    "unet-empty": (_UNET, None, b""),
    "unet-deep": (_UNET, None, b'{"a":' * 100_000),
    "unet-huge": (_UNET, None, b'{"a": "' + b"x" * 25_000_000 + b'"}'),
    "unet-digits": (_UNET, None, b'{"in_channels": ' + b"9" * 9000 + b"}"),
    "index-garbage": ("model_index.json", None, b"{"),
    "scheduler-garbage": ("scheduler/scheduler_config.json", None, b"nonsense"),
    "in-text": (_UNET, "in_channels", "four"),
    "in-list": (_UNET, "in_channels", [4]),
    "in-null": (_UNET, "in_channels", None),
    "in-negative": (_UNET, "in_channels", -4),
    "in-nine": (_UNET, "in_channels", 9),
    "widths-text": (_UNET, "block_out_channels", "wide"),
    "widths-number": (_UNET, "block_out_channels", 320),
    "widths-negative": (_UNET, "block_out_channels", [-8, -16]),
    "widths-huge": (_UNET, "block_out_channels", [10**9, 10**9]),
    "widths-texts": (_UNET, "block_out_channels", ["8", "16"]),
    "blocks-many": (_UNET, "down_block_types", ["DownBlock2D"] * 100_000),
    "layers-endless": (_UNET, "layers_per_block", 10**9),
    "layers-list": (_UNET, "layers_per_block", [10**9] * 4),
    "transformers-endless": (_UNET, "transformer_layers_per_block", [[10**9]]),
}
# The same, found when the base is loaded.
BAD_PARTS: Mapping[str, tuple[str, str | None, Any]] = {
    "unet-heads": (_UNET, "attention_head_dim", "x"),
    "unet-block-types": (_UNET, "down_block_types", ["__import__('os')"] * 4),
    "unet-groups": (_UNET, "norm_num_groups", 0),
    "unet-norm": (_UNET, "norm_num_groups", -7),
    "unet-width": (_UNET, "cross_attention_dim", 999_999),
    "vae-garbage": ("vae/config.json", None, b"{"),
    "vae-layers": ("vae/config.json", "layers_per_block", 10**9),
    "vae-layers-text": ("vae/config.json", "layers_per_block", "two"),
    "vae-types": ("vae/config.json", "down_block_types", 5),
    "vae-negative": ("vae/config.json", "latent_channels", -4),
    "vae-activation": ("vae/config.json", "act_fn", "os.system"),
    "text-garbage": ("text_encoder/config.json", None, b"[]"),
    "text-layers": ("text_encoder/config.json", "num_hidden_layers", 10**9),
    "text-layers-text": ("text_encoder/config.json", "num_hidden_layers", "twelve"),
    "text-width": ("text_encoder/config.json", "hidden_size", -8),
    "text-words": ("text_encoder/config.json", "vocab_size", 10**12),
    "text-heads": ("text_encoder/config.json", "num_attention_heads", 0),
    "scheduler-steps": ("scheduler/scheduler_config.json", "num_train_timesteps", 10**12),
    "scheduler-text": ("scheduler/scheduler_config.json", "beta_start", "small"),
    "scheduler-kind": ("scheduler/scheduler_config.json", "beta_schedule", "nonsense"),
    "scheduler-prediction": ("scheduler/scheduler_config.json", "prediction_type", ["epsilon"]),
    "words-garbage": ("tokenizer/vocab.json", None, b"\xff{"),
    "words-list": ("tokenizer/vocab.json", None, b"[1]"),
    "merges-garbage": ("tokenizer/merges.txt", None, b"\xff\xfe\x80"),
    "weights-empty": ("unet/diffusion_pytorch_model.safetensors", None, b""),
    "weights-garbage": ("vae/diffusion_pytorch_model.safetensors", None, b"\xa5" * 900),
    "weights-lie": ("text_encoder/model.safetensors", None, safetensors(_GOOD, b"", 10**8)),
    "weights-other": ("unet/diffusion_pytorch_model.safetensors", None, safetensors(_GOOD, bytes(48))),
    "weights-cut": ("unet/diffusion_pytorch_model.safetensors", None, 0.5),
    "shards-outside": ("unet/x.safetensors.index.json", None, b'{"weight_map": {"a": "../../../outside.safetensors"}}'),
    "shards-list": ("unet/x.safetensors.index.json", None, b'{"weight_map": [1]}'),
    "unet-gone": ("unet/config.json", None, None),
    "vae-gone": ("vae/config.json", None, None),
    "tokenizer-gone": ("tokenizer/vocab.json", None, None),
    "weights-gone": ("vae/diffusion_pytorch_model.safetensors", None, None),
}


def change(folder: Path, file: str, key: str | None, value: Any) -> Path:
    """Changes one key or the whole of a file: None takes it away, a share cuts it off there."""
    path = folder / file
    if key is not None:
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), key: value}), encoding="utf-8")
    elif value is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * value)] if isinstance(value, float) else value)
    return path


# --- what must not run ---------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({self.mark!r}, 'w').write('run')",)


def pickled(mark: Path, *, zipped: bool) -> bytes:
    """A malicious checkpoint: a bare pickle, or torch's archive around one."""
    if not zipped:
        return pickle.dumps({"state_dict": Bomb(mark)})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Bomb(mark)}, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("../../archive/escaped.txt", "out")
    return out.getvalue()
