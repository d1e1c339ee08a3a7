# SPDX-License-Identifier: Apache-2.0
"""Signatures: the published vectors of Ed25519 and of minisign, keys on the disk, and what is refused."""

from __future__ import annotations

import base64
import os

import pytest

from loraforge import RunError
from loraforge.runs import signing
from loraforge.runs.signing import PublicKey, SignatureError, Signer, check, generate, key_id, read_public, read_secret

# RFC 8032, section 7.1: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]  # fmt: skip
# From the documentation of rust-minisign-verify: a file "test" that holds "test", signed in the old way and in today's.
MINISIGN = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
OLD = """untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
"""
TODAY = """untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
"""


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_the_rfc(secret, public, message, signature):
    key = PublicKey(b"12345678", bytes.fromhex(public))
    assert signing._public(bytes.fromhex(secret)) == key.key
    # The old kind signs the file itself, so the RFC's signature stands in it as it is.
    made = base64.b64encode(b"Ed" + key.id + bytes.fromhex(signature)).decode()
    whole = signing._ed25519(bytes.fromhex(secret)).sign(bytes.fromhex(signature) + b"x")
    text = f"untrusted comment: \n{made}\ntrusted comment: x\n{base64.b64encode(whole).decode()}\n"
    assert check(bytes.fromhex(message), text, key).comment == "x"
    with pytest.raises(SignatureError, match="one of the two was altered"):
        check(bytes.fromhex(message) + b"x", text, key)


@pytest.mark.parametrize("text", [OLD, TODAY])
def test_signatures_of_minisign_itself_are_read(text):
    key = read_public(MINISIGN)
    assert key.name == "E7620F1842B4E81F" == key_id(text) and key.text == MINISIGN
    assert check(b"test", text, key).comment.endswith("file:test")
    other = read_public(MINISIGN)
    lines = text.splitlines()
    for data, changed, said in (
        (b"Test", lines, "one of the two was altered"),
        (b"test", [*lines[:2], lines[2].replace("15", "16"), lines[3]], "comment was altered"),
        (b"test", [lines[0], (TODAY if text is OLD else OLD).splitlines()[1], *lines[2:]], "comment was altered"),
        (b"test", lines[:3], "no signature"),
        (b"test", [lines[0], lines[1][:-8], *lines[2:]], "no signature"),
        (b"test", ["", *lines], "no signature"),
    ):
        with pytest.raises(SignatureError, match=said):
            check(data, "\n".join(changed), other)
    with pytest.raises(SignatureError, match="by another key"):
        check(b"test", text, PublicKey(b"8bytes..", key.key))


@pytest.mark.parametrize("passphrase", ["", "密码 words"])
def test_a_key_is_made_once_for_its_owner_alone_and_signs(tmp_path, passphrase):
    secret, public, key = generate(tmp_path / "keys", " 王\n医生\x1b ", passphrase)
    if os.name != "nt":
        assert secret.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in secret.parent.iterdir()) == ["signing.key", "signing.pub"]
    assert secret.read_text(encoding="utf-8").isascii() and public.read_text(encoding="utf-8").isascii()
    signer = read_secret(secret, lambda: passphrase)
    assert signer == Signer(key, signer.seed, "王 医生") and read_public(str(public)) == key == read_public(key.text)
    text = signer.sign(b"content", "manifest.json")
    found = check(b"content", text, key)
    assert text.isascii() and found.who == "王 医生" and "file:manifest.json\thashed" in found.comment
    before = secret.read_bytes()
    with pytest.raises(RunError, match="is there already and was left as it is"):
        generate(tmp_path / "keys", "x")
    public.unlink()
    with pytest.raises(RunError, match="is there already"):
        generate(tmp_path / "keys", "x")
    assert secret.read_bytes() == before
    if passphrase:
        with pytest.raises(RunError, match="the passphrase is wrong"):
            read_secret(secret, lambda: "other")


def test_a_signers_name_cannot_command_a_terminal():
    assert signing.Signature("timestamp:1\tsigner:%1b[31m%E7%8E%8B").who == "\\u001b[31m王"


# One key, written by the package py-minisign 0.21.1: without a passphrase, and with "geheim" in front of either branch of libsodium's limits.
FOREIGN_PUBLIC = "RWSaJWsmi97rr+2ka0gEtdvIHk7lJjprd7WuR/IWZg0W2Dm7byWe0Yui"
FOREIGN = [
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAmiVrJove6682o3q1t/yvgawuBBdn3SeBs+9vGG3Lbjby0wFuwdV9u+2ka0gEtdvIHk7lJjprd7WuR/IWZg0W2Dm7byWe0Yuici2LI/kYOgqkrl8voCZLd5izzXAdLgn/rQsltVLA/TU=",
    "RWRTY0Iy+iHf+IfBzoQV6mk2SXlaaHmYe0rsPw746IwhXtNTLxIAABAAAAAAAAAAAAIAAAAA6GoKLj6B3Ba5tuIOaBT+PVTIGJrqD/7NgzEkmXO8C85+E5AWAOvcFwRv2cQ0q2/oROORq0WIiSP5un17ABBuYfm/s1zcR3FhzpV5kH0GqwnmAxs8SkfIeA+jboq2M9sIfVpDrevb/Hw=",
    "RWRTY0IyDc32tLeNodj7+1M/bsYcOGTD8o2mvEMr9MnBNpdMhOcAAAQAAAAAAAAAAAIAAAAAIKSuE7fGhqy9fJs7FDYlU6ZCzg77R9stFH9gRjenqePt0Gzbn5F6nCXjw8OUxaCNcNKrT2ZPP4VF5Vnho7aquZykpFfbWfbgCSiVaUHzShyee1hZm2Cdrx+Cgl6i1qIINrsTRmlaiJc=",
]


@pytest.mark.parametrize("line", FOREIGN)
def test_keys_of_another_program_are_read(tmp_path, line):
    file = tmp_path / "minisign.key"
    file.write_text(f"untrusted comment: minisign secret key\n{line}\n", encoding="utf-8")
    signer = read_secret(file, lambda: "geheim")
    assert signer.public == read_public(FOREIGN_PUBLIC) and signer.who == ""
    assert check(b"x", signer.sign(b"x", "x"), read_public(FOREIGN_PUBLIC)).comment.endswith("\tfile:x\thashed")


@pytest.mark.parametrize("text", ["", "x\n", "untrusted comment: x\nAAAA\n", "untrusted comment: x\n" + "A" * 212 + "\n", "\x00\xff"])
def test_what_is_no_key_is_a_message(tmp_path, text):
    file = tmp_path / "k"
    file.write_bytes(text.encode("latin-1"))
    for read in (lambda: read_secret(file, str), lambda: read_public(str(file))):
        with pytest.raises(RunError, match=r"k (is no (secret|public) key|cannot be read)"):
            read()
    with pytest.raises(RunError, match="cannot be read: No such file"):
        read_public(str(tmp_path / "gone"))


def test_without_the_library_the_error_names_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(RunError, match="pip install cryptography"):
        check(b"test", TODAY, read_public(MINISIGN))


def test_a_key_may_not_ask_for_all_memory(tmp_path):
    head = b"EdScB2" + bytes(32) + (1 << 40).to_bytes(8, "little") + (1 << 40).to_bytes(8, "little")
    file = tmp_path / "k"
    file.write_text("untrusted comment: x\n" + base64.b64encode(head + bytes(104)).decode() + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="more memory"):
        read_secret(file, lambda: "x")
