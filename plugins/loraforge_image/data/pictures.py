# SPDX-License-Identifier: Apache-2.0
"""Reads whatever picture an illustrator has, as RGB and the right way up. Without torch."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image, UnidentifiedImageError

from loraforge import DataError, first_few, read_file, refuse_machines_fault, require_file, speaker, why

from .formats.colours import to_srgb
from .formats.jpeg_xl import jxl_size

say = speaker(__name__)

# What further packages of the extra "pictures" read, by the package; without it these files are named as unread.
_EXTRA = {"pillow_heif": (".heic", ".heif", ".hif"), "pillow_jxl": (".jxl",)}
_THERE = tuple(name for name in _EXTRA if importlib.util.find_spec(name))
# The endings of the files that are taken for pictures. Which kind a file is, its content says.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jfif", ".jpe", ".jif", ".jfi", ".mpo", ".apng"),
    *(".pjpeg", ".pjp", ".jpg_large", ".jpeg_large", ".png_large"),  # as browsers and one network save them
    *(".avifs", ".dib", ".tga", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".ppm", ".pgm", ".pbm", ".pnm", ".psd"),
    *(suffix for name in _THERE for suffix in _EXTRA[name]),
)
# What illustrators, telephones and cameras save beside these.
_PROGRAMS = ".psb .clip .lip .kra .procreate .sai .sai2 .xcf .ora .mdp .afphoto .afdesign .pdn .cpt .cdr .ai .svg .eps .pdf .wmf .emf .fla"
_CAMERAS = ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .raw .x3f .3fr .iiq"
_OTHERS = ".exr .hdr .pfm .dds .ico .icns .cur .svgz .pcx .sgi .qoi .xbm .xpm .jxr .wdp .hdp .bpg .flif .jpm .psp .pspimage .fits .dcm"
# Files of these endings are pictures, or hold some, and are not read: by ending, ``"extra"`` where a package would read them, ``"saved"``
# where they must be saved as another kind. ``unread`` says so to people.
UNREAD: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((*_PROGRAMS.split(), *_CAMERAS.split(), *_OTHERS.split()), "saved"),
        **{suffix: "extra" for name, suffixes in _EXTRA.items() if name not in _THERE for suffix in suffixes},
    }
)
# 24 000 x 24 000; beyond lies nobody's artwork, but many a file made to fill a machine's memory.
LARGEST = 576_000_000
# So does what is large and unpacks to more than this many pixels a byte: drawings in flat colours have 30, one colour alone 1000.
_UNPACKED, _PLENTY = 200, 64_000_000
# Pillow knows fifty kinds and goes by the content, not the name: PostScript that is called a.png would be handed to Ghostscript.
_KINDS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "JPEG2000", "PSD", "PPM", "HEIF", "JXL")
# How EXIF says that the camera was held.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def unread(names: Sequence[str]) -> list[str]:
    """What to tell of files with the endings in ``UNREAD``: a sentence of those that a package would read, and one of the others.

    Args:
        names: as they shall be called; names of other files are passed over.
    """
    kinds: dict[str, list[str]] = {"extra": [], "saved": []}
    for name in names:
        kind = UNREAD.get(Path(name).suffix.lower())
        if kind:
            kinds[kind].append(name)
    told = []
    if extra := kinds["extra"]:
        told.append(
            say(
                "{n} files are HEIC or JPEG XL, which are not read until `pip install 'loraforge[pictures]'` is run: {names}",
                n=len(extra),
                names=first_few(extra),
            )
        )
    if saved := kinds["saved"]:
        told.append(
            say("{n} files are of a kind that is not read; save them as PNG or JPEG: {names}", n=len(saved), names=first_few(saved))
        )
    return told


def sources(files: Sequence[Path]) -> dict[Path, Path]:
    """Which Photoshop files are what another picture of the same name was exported from, and that picture: they are not a second one."""
    exported = {path.with_suffix(""): path for path in reversed(files) if path.suffix.lower() != ".psd"}
    return {path: exported[path.with_suffix("")] for path in files if path.suffix.lower() == ".psd" and path.with_suffix("") in exported}


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) the right way up, from the file's header.

    Raises:
        DataError: if it is no picture.
    """
    with open_picture(path) as image:
        try:
            turned = _orientation(image, image.getexif()) in (5, 6, 7, 8)
            # Pillow turns a TIFF by itself, and tells its size as it will be.
            width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
        except Exception as error:  # Pillow raises many kinds for damaged files
            refuse_machines_fault(error)
            raise DataError(_damaged(path, error)) from None
        return (height, width) if turned else (width, height)


def read_picture(path: Path) -> Image.Image:
    """The picture as RGB: turned as EXIF says, its first frame, transparency on white, profiles to sRGB (``colours.to_srgb``). Of a
    Photoshop file it is what Photoshop saves beside the layers.

    Raises:
        DataError: if it is damaged, or no picture.
    """
    return read_whole(path)[0]


def read_whole(path: Path, least: int = 0) -> tuple[Image.Image, tuple[int, int], Image.Exif]:
    """The picture as ``read_picture`` gives it, its size (width, height) the right way up, and its EXIF data.

    Where the picture has a colour profile that cannot be used, its ``info`` has ``"unused_profile"``.

    Args:
        least: so many pixels of the longer side are enough: a JPEG is decoded at half, a quarter or an eighth of its size, which takes a
            fraction of the time. The size that is returned is that of the file.

    Raises:
        DataError: if it is damaged, or no picture.
    """
    with open_picture(path) as image:
        try:
            _refuse_layers_only(image)
            if image.format != "PSD":  # whose frames are its layers
                image.seek(0)
            size = None
            if least and image.format in ("JPEG", "MPO"):
                size = image.size
                shrunk = least / max(size)
                image.draft(None, (max(1, round(size[0] * shrunk)), max(1, round(size[1] * shrunk))))
            if image.format == "PNG" and image.tile and (bits := re.search(r";(\d+)", str(image.tile[0][3]))):
                image.info["bits"] = int(bits[1])
            image.load()
            exif = image.getexif()
            with contextlib.suppress(Exception):  # EXIF of broken writers
                exif.get_ifd(0x8825), exif.get_ifd(0x8769)  # place and camera: read now, while the file is open
            turn = _orientation(image, exif)
            made, unused = to_srgb(image)
            made = made.transpose(_TURNS[turn]) if turn in _TURNS else made
            made.info = {"unused_profile": True} if unused else {}
            return made, (made.size if size is None else size[::-1] if turn in (5, 6, 7, 8) else size), exif
        except DataError:
            raise
        except Exception as error:  # as above
            refuse_machines_fault(error)
            raise DataError(_damaged(path, error)) from None


def _orientation(image: Any, exif: Image.Exif) -> int:
    """How the picture is turned, as EXIF counts; a JPEG XL is turned by its decoder, unless it is a JPEG inside."""
    return 1 if image.format == "JXL" and not getattr(image, "jpeg", False) else int(exif.get(0x0112, 1))


def _refuse_layers_only(image: Any) -> None:
    """Raises:
    DataError: if a Photoshop file says that it holds its layers only, not what they make together.
    """
    if image.format == "PSD" and any(kind == 1057 and data[4:5] == b"\0" for kind, _, data in image.resources):
        raise DataError(say("it holds layers only; save it with maximized compatibility, or as PNG"))


def content_hash(image: Image.Image) -> str:
    """SHA-256 (hex) of size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def open_picture(path: Path) -> Any:
    """Opens a picture and reads its header.

    Raises:
        DataError: if it is none.
    """
    try:
        size = require_file(path).st_size
        if size == 0:
            raise DataError(say("the picture file is empty (0 bytes)"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own bound is below
            Image.MAX_IMAGE_PIXELS = None
            image = Image.open(path, formats=_kinds(path, size))
            if image.format == "TIFF":
                image.filename = ""  # Pillow maps the file into memory by its name, and then scrambles pictures that lie on their side
    except FileNotFoundError:
        raise DataError(say("there is no such file")) from None
    except UnidentifiedImageError:
        raise DataError(_unidentified(path)) from None
    except DataError:
        raise
    except Exception as error:  # as above
        refuse_machines_fault(error)
        raise DataError(_damaged(path, error)) from None
    try:
        _refuse_too_large(image.size, size)
    except DataError:
        image.close()
        raise
    return image


def _kinds(path: Path, size: int) -> tuple[str, ...]:
    """The kinds that a file may be. A Targa file has no mark of its own, so that one is only what is called so.

    Raises:
        DataError: if it needs a package that is not there, or is made to fill the memory.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if start[4:8] == b"ftyp" and re.match(rb"hei[cfmsx]|hev[cmsx]|mif1|msf1", start[8:12]) and b"avif" not in start[8:]:
        _opener("pillow_heif", "HEIC")
    elif start.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        _opener("pillow_jxl", "JPEG XL")
        _refuse_too_large(jxl_size(read_file(path)) or (1, 1), size)
    Image.init()
    return (*(kind for kind in _KINDS if kind in Image.OPEN), *(["TGA"] if path.suffix.lower() == ".tga" else []))


@functools.cache
def _opener(package: str, kind: str) -> None:
    """Tells Pillow of a package that reads further kinds."""
    try:
        module = importlib.import_module(package if package == "pillow_heif" else "pillow_jxl.JpegXLImagePlugin")
    except ImportError:
        raise DataError(
            say("it is {kind}, which is not read until `pip install 'loraforge[pictures]'` is run; or save it as PNG", kind=kind)
        ) from None
    if package == "pillow_heif":
        module.register_heif_opener()


def _refuse_too_large(sides: tuple[int, int], size: int) -> None:
    """Raises:
    DataError: if so few bytes hold more pixels than anybody draws.
    """
    pixels, shown = sides[0] * sides[1], f"{sides[0]}x{sides[1]}"
    if pixels > LARGEST:
        raise DataError(say("it is {size} pixels large, more than can be meant; make it smaller", size=shown))
    if pixels > max(_PLENTY, size * _UNPACKED):
        raise DataError(
            say("it is {size} pixels large in {bytes} bytes, as files made to fill the memory are; make it smaller", size=shown, bytes=size)
        )


def _unidentified(path: Path) -> str:
    """Why Pillow takes a file for no picture."""
    with path.open("rb") as file:
        start = file.read(12)
    marks = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"8BPS": "Photoshop", b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}
    known = next((kind for mark, kind in marks.items() if start.startswith(mark)), None)
    if known is None:
        return say("it is no picture that can be read; save it as PNG, JPEG or WebP")
    return say(
        "it is a {kind} file of a sort that cannot be read, or is cut off (of TIFF and Photoshop files: more than 8 bits a channel in "
        "colour, floating point, or too many channels); save it as PNG",
        kind=known,
    )


def is_written_by(path: Path, program: str) -> bool:
    """Whether a PNG says that this program wrote it."""
    try:
        require_file(path)
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == program
    except Exception:  # as above
        return False


def _damaged(path: Path, error: BaseException) -> str:
    reason = why(error)
    return say("the picture is damaged: {reason}", reason=reason.replace(str(path), path.name))
