# SPDX-License-Identifier: Apache-2.0
"""Signatures of runs: Ed25519 (RFC 8032), in the files of minisign (https://jedisct1.github.io/minisign), so that `minisign -V` checks
them without LoRAForge.

    signing.key    the secret key, in the user's folder of settings; with a passphrase or without
    signing.pub    the public key: given to whoever verifies
    RUN/manifest.json.minisig, RUN/records/0001.json.minisig    signatures, beside what is signed

All numbers are little-endian, as minisign's. A signature is of the file's BLAKE2b-512 ("ED"); old ones of the file itself ("Ed") are read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ..errors import RunError, printable
from ..files import open_file
from ..messages import speaker
from .disk import disk_errors, fsync, usual_rights

say = speaker(__name__)

SUFFIX = ".minisig"
SECRET, PUBLIC = "signing.key", "signing.pub"
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_WHO = "LoRAForge signing key of "
# libsodium's limits for N = 2^17, r = 8, p = 1: 128 MB and half a second for every guess of a passphrase.
_OPERATIONS, _MEMORY = 1 << 22, 1 << 27


def settings_folder() -> Path:
    """Where the user's keys are by default; it need not exist."""
    if os.name == "nt":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "loraforge"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "loraforge"


@dataclass(frozen=True)
class PublicKey:
    """Who may be asked about a signature.

    Attributes:
        id: eight bytes by which keys are told apart; no proof.
        key: 32 bytes.
    """

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The key's number as minisign prints it."""
        return self.id[::-1].hex().upper()

    @property
    def text(self) -> str:
        """One line that says all: what may stand in a letter or on a card."""
        return base64.b64encode(b"Ed" + self.id + self.key).decode()


@dataclass(frozen=True)
class Signature:
    """What a ``.minisig`` file says, once it has been checked.

    Attributes:
        comment: the trusted comment, which is signed too: when, which file, whose key.
    """

    comment: str

    @property
    def who(self) -> str:
        """The name that the key's owner gave it; empty if none."""
        said = next((unquote(part.removeprefix("signer:")) for part in self.comment.split("\t") if part.startswith("signer:")), "")
        return printable(said)


class SignatureError(Exception):
    """A signature is not what it claims to be; the message is a sentence for the user."""


@dataclass(frozen=True)
class Signer:
    """A secret key, ready to sign.

    Attributes:
        who: the name that its owner gave it; it stands in every signature.
    """

    public: PublicKey
    seed: bytes
    who: str = ""

    def sign(self, data: bytes, name: str) -> str:
        """The content of the ``.minisig`` file for ``data``, which lies in a file called ``name``."""
        made = _ed25519(self.seed).sign(hashlib.blake2b(data).digest())
        comment = f"timestamp:{int(time.time())}\tfile:{name}\thashed" + (f"\tsigner:{_plain(self.who)}" if self.who else "")
        whole = _ed25519(self.seed).sign(made + comment.encode())
        first = base64.b64encode(b"ED" + self.public.id + made).decode()
        return f"{_UNTRUSTED}signature of LoRAForge\n{first}\n{_TRUSTED}{comment}\n{base64.b64encode(whole).decode()}\n"


def check(data: bytes, signature: str, key: PublicKey) -> Signature:
    """Checks a signature.

    Args:
        data: the bytes of the signed file.
        signature: the content of the ``.minisig`` file.

    Raises:
        SignatureError: if it is not a signature of ``data`` by ``key``, or not one at all.
    """
    lines = signature.splitlines()
    if len(lines) < 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise SignatureError(say("it is no signature in minisign's form"))
    first, whole = _decoded(lines[1], 74), _decoded(lines[3], 64)
    if first is None or whole is None or first[:2] not in (b"ED", b"Ed"):
        raise SignatureError(say("it is no signature in minisign's form"))
    if first[2:10] != key.id:
        by = PublicKey(first[2:10], b"").name
        raise SignatureError(say("it is by another key ({other}, not {key})", other=by, key=key.name))
    comment = lines[2].removeprefix(_TRUSTED)
    signed = hashlib.blake2b(data).digest() if first[:2] == b"ED" else data
    if not _verified(key.key, first[10:], signed):
        raise SignatureError(say("it does not belong to this content: one of the two was altered"))
    if not _verified(key.key, whole, first[10:] + comment.encode("utf-8", "surrogatepass")):
        raise SignatureError(say("its comment was altered"))
    return Signature(comment)


def _plain(who: str) -> str:
    """A name in ASCII: readers of minisign's files refuse other characters in a comment."""
    return quote(who, safe=" .,;:-_'()@/")


def key_id(signature: str) -> str:
    """The number of the key that a signature says it is by, unchecked; empty if it says none."""
    lines = signature.splitlines()
    first = _decoded(lines[1], 74) if len(lines) > 1 else None
    return PublicKey(first[2:10], b"").name if first else ""


# --- Ed25519 ------------------------------------------------------------------------------------------------------------------


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise RunError(say("Signatures need the package cryptography, which is not installed here: pip install cryptography")) from None
    return ed25519


def _ed25519(seed: bytes) -> Any:
    return _library().Ed25519PrivateKey.from_private_bytes(seed)


def _public(seed: bytes) -> bytes:
    return bytes(_ed25519(seed).public_key().public_bytes_raw())


def _verified(key: bytes, signature: bytes, data: bytes) -> bool:
    library = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        library.Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decoded(line: str, length: int) -> bytes | None:
    try:
        found = base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == length else None


# --- keys on the disk ---------------------------------------------------------------------------------------------------------


def generate(folder: Path, who: str, passphrase: str = "") -> tuple[Path, Path, PublicKey]:
    """Makes a key pair in ``folder``: (secret, public, what the public one says). The secret one can be read by its owner only.

    Args:
        who: a name that will stand in every signature; may be empty.
        passphrase: without it nobody can use the secret key; empty for none.

    Raises:
        RunError: if there is a key already, or the folder cannot be written to.
    """
    secret, public = folder / SECRET, folder / PUBLIC
    taken = [path for path in (secret, public) if os.path.lexists(path)]
    if taken:
        raise RunError(
            say(
                "{path} is there already and was left as it is: what it has signed could not be checked any more without it. "
                "Name another folder with --out.",
                path=taken[0],
            )
        )
    who = " ".join("".join(c if c.isprintable() else " " for c in who).split())
    seed, number = secrets.token_bytes(32), secrets.token_bytes(8)
    key = PublicKey(number, _public(seed))
    label = _WHO + _plain(who) if who else "LoRAForge signing key"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(secret, f"{_UNTRUSTED}{label}\n{_sealed_secret(key, seed, passphrase)}\n", 0o600)
        _write_new(public, f"{_UNTRUSTED}{label}, public, {key.name}\n{key.text}\n", None)
    return secret, public, key


def _write_new(path: Path, text: str, mode: int | None) -> None:
    """Writes a whole file under a name that is free, or fails. It is never more readable than ``mode``, or the usual rights, say."""
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        usual_rights(Path(aside)) if mode is None else os.chmod(aside, mode)
        os.link(aside, path)
        fsync(path.parent)
    finally:
        Path(aside).unlink(missing_ok=True)


def _sealed_secret(key: PublicKey, seed: bytes, passphrase: str) -> str:
    secret = seed + key.key
    inner = key.id + secret + hashlib.blake2b(b"Ed" + key.id + secret, digest_size=32).digest()
    salt = secrets.token_bytes(32) if passphrase else bytes(32)
    operations, memory = (_OPERATIONS, _MEMORY) if passphrase else (0, 0)
    if passphrase:
        inner = _xor(inner, _stream(passphrase, salt, operations, memory))
    head = b"Ed" + (b"Sc" if passphrase else bytes(2)) + b"B2"
    return base64.b64encode(head + salt + operations.to_bytes(8, "little") + memory.to_bytes(8, "little") + inner).decode()


def read_secret(path: Path, ask: Callable[[], str]) -> Signer:
    """A secret key, of ours or of minisign.

    Args:
        ask: for the passphrase, if the key has one.

    Raises:
        RunError: if it is none, or the passphrase is wrong.
    """
    lines = _lines(path)
    found = _decoded(lines[1], 158) if len(lines) > 1 else None
    if found is None or found[:2] != b"Ed" or found[4:6] != b"B2" or found[2:4] not in (b"Sc", bytes(2)):
        raise RunError(say("{path} is no secret key in minisign's form. `loraforge keygen` makes one.", path=path))
    salt, operations, memory, inner = found[6:38], _number(found[38:46]), _number(found[46:54]), found[54:]
    if found[2:4] == b"Sc":
        inner = _xor(inner, _stream(ask(), salt, operations, memory, path))
    number, seed, public, proof = inner[:8], inner[8:40], inner[40:72], inner[72:]
    if hashlib.blake2b(b"Ed" + number + seed + public, digest_size=32).digest() != proof or _public(seed) != public:
        raise RunError(say("{path}: the passphrase is wrong, or the key is damaged.", path=path))
    comment = lines[0].removeprefix(_UNTRUSTED)
    return Signer(PublicKey(number, public), seed, unquote(comment.removeprefix(_WHO)) if comment.startswith(_WHO) else "")


def read_public(given: str) -> PublicKey:
    """A public key: a file of ours or of minisign, or the line in it.

    Raises:
        RunError: if it is none.
    """
    found = _decoded(given, 42)
    if found is None:
        lines = _lines(Path(given))
        found = next((key for line in lines[:2] if (key := _decoded(line, 42)) is not None), None)
    if found is None or found[:2] != b"Ed":
        raise RunError(say("{path} is no public key in minisign's form. `loraforge keygen` makes a pair.", path=given))
    return PublicKey(found[2:10], found[10:])


def _lines(path: Path) -> list[str]:
    try:
        with open_file(path) as file:
            return file.read(1 << 16).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error if isinstance(error, OSError) else say("it is not text")
        raise RunError(say("{path} cannot be read: {error}.", path=path, error=reason)) from None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _stream(passphrase: str, salt: bytes, operations: int, memory: int, path: Path | None = None) -> bytes:
    """scrypt with the parameters that libsodium derives from its limits (crypto_pwhash_scryptsalsa208sha256, pickparams)."""
    operations = max(operations, 32768)
    if operations < memory // 32:
        power, parallel = _power(operations // 32), 1
    else:
        power = _power(memory // 1024)
        parallel = min(operations // 4 >> power, 0x3FFFFFFF) // 8
    needed = 128 * 8 * (1 << power)
    if needed > 1 << 31 or not 1 <= parallel <= 64:
        raise RunError(say("{path}: its passphrase asks for more memory than this program gives it.", path=path))
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << power, r=8, p=parallel, maxmem=2 * needed + (1 << 20), dklen=104)


def _power(most: int) -> int:
    """libsodium's loop: the smallest power of two, from 2 on, that is more than half of ``most``."""
    power = 1
    while power < 63 and 1 << power <= most // 2:
        power += 1
    return power
