# SPDX-License-Identifier: Apache-2.0
"""Packed files: .gz and .zip, and how much may come out of them."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import PurePosixPath

from loraforge import DataError, refuse_machines_fault, speaker, unpacked_size, why

from .rows import LARGEST, Source

say = speaker(__name__)

_MOST_FILES = 1000


def refuse_bomb(source: Source) -> None:
    """Before anything is unpacked.

    Raises:
        DataError: if what is packed tightly (texts, not pictures) unpacks to more than anybody means.
    """
    size = unpacked_size(source.data)
    if size > LARGEST:
        raise DataError(
            say(
                "{path}: unpacks to {n} MB, more than the {most} MB that are read. Copy questions and answers into a new workbook, or save "
                "them as CSV.",
                path=source.path,
                n=size // 10**6,
                most=LARGEST // 10**6,
            )
        )


def unpack_gzip(source: Source) -> Source:
    """What a .gz holds, called like the file without ``.gz``.

    Raises:
        DataError: if it is damaged, or unpacks to more than anybody means.
    """
    unpacker = zlib.decompressobj(wbits=31)
    pieces = []
    rest, size = source.data, 0
    try:
        while rest:
            piece = unpacker.decompress(rest, LARGEST + 1 - size)
            size += len(piece)
            pieces.append(piece)
            if size > LARGEST:
                raise DataError(say("{path}: unpacks to more than the {most} MB that are read.", path=source.path, most=LARGEST // 10**6))
            if unpacker.eof:  # a .gz may hold several pieces, end to end
                rest = unpacker.unused_data.lstrip(b"\0")
                unpacker = zlib.decompressobj(wbits=31)
                finished = True
            else:
                rest, finished = unpacker.unconsumed_tail, False
        if not pieces or not finished:
            raise zlib.error(say("it breaks off"))
    except zlib.error as error:
        raise DataError(say("{path}: cannot be unpacked: {error}.", path=source.path, error=error)) from None
    return Source(source.path, source.name[:-3], b"".join(pieces))


def unpack_zip(source: Source) -> list[Source]:
    """The files in a .zip, called ``archive.zip/folder/file``; hidden ones left out.

    Raises:
        DataError: if it is damaged or protected, or unpacks to more than anybody means.
    """
    try:
        refuse_bomb(source)
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            members = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info.filename)]
            if len(members) > _MOST_FILES:
                raise DataError(
                    say("{path}: holds {n} files; at most {most} are read.", path=source.path, n=len(members), most=_MOST_FILES)
                )
            if sum(info.file_size for info in members) > LARGEST:
                raise DataError(say("{path}: unpacks to more than the {most} MB that are read.", path=source.path, most=LARGEST // 10**6))
            if any(info.flag_bits & 1 for info in members):
                raise DataError(say("{path}: is protected by a password. Unpack it.", path=source.path))
            return [
                Source(f"{source.path}/{_name(info)}", f"{source.name}/{_name(info)}", archive.read(info))
                for info in sorted(members, key=lambda info: info.filename)
            ]
    except DataError:
        raise
    except Exception as error:  # zipfile raises whatever the damage leads to
        refuse_machines_fault(error)
        text = why(error)
        raise DataError(say("{path}: cannot be unpacked: {error}.", path=source.path, error=text.split("\n")[0])) from None


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith((".", "~$", "__MACOSX")) for part in parts)


def _name(info: zipfile.ZipInfo) -> str:
    """Windows packs Chinese names as GBK without saying so, and zipfile reads them as the DOS code page."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("gb18030")
    except UnicodeError:
        return info.filename
