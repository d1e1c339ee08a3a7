# SPDX-License-Identifier: Apache-2.0
"""What the seal, the records of later commands and the signatures prove; see ``runs.records`` for the form of the chain."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import open_file, read_file
from ..messages import speaker
from ..runs import signing
from ..runs.amending import stage_of
from ..runs.checkpoints import checkpoint_rows
from ..runs.folder import MANIFEST_LIMIT
from ..runs.provenance import hash_file
from ..runs.records import EVALUATION, Chain, Record, merged_files, read_json, record_name, unit
from ..runs.seal import SEAL, kept_seal
from ..terminal import quoted
from .verdicts import ALTERED, DIFFERS, MISSING, UNCHANGED, UNCHECKED, UNRECORDED, Verifier

say = speaker(__name__)


def verify_seal(verifier: Verifier, digest: str, wanted: str, chain: Chain) -> bool | None:
    """manifest.json against the seal beside it, and the one that was kept elsewhere.

    Args:
        digest: SHA-256 of manifest.json as it is.
        wanted: what was kept elsewhere: the seal, or the hash of a record; empty for nothing.

    Returns:
        Whether what was kept elsewhere is there; None if nothing was given.
    """
    name, kept = verifier.run.manifest_file.name, kept_seal(verifier.run)
    if not kept:
        there = os.path.lexists(verifier.run.path / SEAL)
        if "files" in verifier.manifest and not there:
            way = say(
                "there is no seal beside it ({file}): it was deleted, or the run was interrupted while it was sealed. `loraforge card "
                "{run}` sets it again if all files are as the manifest names them",
                file=SEAL,
                run=quoted(verifier.run.path),
            )
            verifier.add("manifest", name, MISSING, way)
        else:
            verifier.add("manifest", name, MISSING if there else UNRECORDED, say("there is no seal beside it ({file})", file=SEAL))
    elif kept == digest:
        verifier.add("manifest", name, UNCHANGED, say("is the file that {file} beside it names", file=SEAL))
    else:
        verifier.add("manifest", name, ALTERED, say("is not the file that {file} beside it names", file=SEAL))
    return _kept_elsewhere(verifier, digest, wanted, chain)


def _kept_elsewhere(verifier: Verifier, digest: str, wanted: str, chain: Chain) -> bool | None:
    if not wanted:
        way = say("no seal that was kept elsewhere was given; manifest and seal file could be changed together")
        verifier.add("seal", "--seal", UNCHECKED, way)
        return None
    record = next((one for one in chain.records if one.digest == wanted), None)
    seals = verifier.manifest.get("seals")
    if wanted == digest:
        verifier.add("seal", "--seal", UNCHANGED, say("manifest.json is the file whose seal was kept elsewhere"))
    elif record is not None:
        way = say("is that of {record}: neither the manifest nor a record up to this one was altered or taken away", record=record.name)
        verifier.add("seal", "--seal", UNCHANGED, way)
    elif isinstance(seals, list) and wanted in seals:
        # An earlier LoRAForge wrote the manifest again at each command and listed the seals before it. Anybody can write such a list.
        way = say(
            "manifest.json is not the file whose seal was kept elsewhere. It says of itself that a later command of an earlier LoRAForge "
            "took the place of that file; anybody could have written this, so it proves nothing. Give the seal that the last of these "
            "commands printed"
        )
        verifier.add("seal", "--seal", ALTERED, way)
    else:
        way = say("neither manifest.json nor a record is the file whose seal was kept elsewhere: it was altered, replaced or taken away")
        verifier.add("seal", "--seal", ALTERED, way)
    return wanted == digest or record is not None


def verify_records(verifier: Verifier, chain: Chain) -> None:
    """What later commands added, each with its time; and every record that no command wrote in this place."""
    for record in chain.records:
        files = [*record.files]
        parts = [say("wrote {names}", names=", ".join(name for name in files if record.files[name]))] if any(record.files.values()) else []
        gone = [name for name in files if record.files[name] is None]
        parts += [say("took away {names}", names=", ".join(gone))] if gone else []
        parts += [say("entered {names}", names=", ".join(record.entries))] if record.entries else []
        said = say("{command}, {time}: {what}", command=record.command, time=record.time, what="; ".join(parts))
        verifier.add("record", record.name, UNCHANGED, said)
    for name, sentence in chain.problems:
        verifier.add("record", name, ALTERED if os.path.lexists(verifier.run.path / name) else MISSING, sentence)


# --- signatures ---------------------------------------------------------------------------------------------------------------


def verify_signatures(verifier: Verifier, chain: Chain, given: signing.PublicKey | None, kept: Path | None) -> str | None:
    """The signatures of the manifest and of every record.

    Args:
        given: the key that must have signed all of them; None takes the user's own, if the manifest names that one.
        kept: a signature that was kept elsewhere: what it signs must be there.

    Returns:
        Who signed everything that is there: the key's number, and the name that its owner gave it; None if that was not proved.
    """
    names = [verifier.run.manifest_file.name, *(record.name for record in chain.records)]
    texts = {name: _text(verifier.run.path / f"{name}{signing.SUFFIX}") for name in names}
    key = given or _own(texts[names[0]])
    if key is None:
        for name, text in texts.items():
            if text is not None:
                way = say("is signed with the key {key}, it says; --public-key FILE checks it", key=signing.key_id(text) or "?")
                verifier.add("signature", name, UNCHECKED, way)
        if kept is not None:
            verifier.add("signature", kept, UNCHECKED, say("needs --public-key"))
        return None
    who, all_signed = key.name, True
    for name, text in texts.items():
        if text is None:
            all_signed = False
            verifier.add("signature", name, MISSING, say("is not signed: whoever could write into the folder can have put it there"))
            continue
        try:
            checked = signing.check(read_file(verifier.run.path / name, MANIFEST_LIMIT), text, key)
        except signing.SignatureError as error:
            all_signed = False
            verifier.add("signature", name, ALTERED, say("its signature does not hold: {error}", error=error))
            continue
        shown = say("{key}, called {name}", key=key.name, name=checked.who) if checked.who else key.name
        who = shown if name == names[0] else who
        verifier.add("signature", name, UNCHANGED, say("is signed with the key {key}", key=shown))
    if kept is not None:
        _kept_signature(verifier, names, key, kept)
    orphan = f"{record_name(len(chain.records) + 1)}{signing.SUFFIX}"
    if not chain.problems and os.path.lexists(verifier.run.path / orphan):
        way = say("is the signature of a record that is not there: a command was interrupted here, or the record was taken away")
        verifier.add("signature", orphan, DIFFERS, way)
    return who if all_signed else None


def _kept_signature(verifier: Verifier, names: list[str], key: signing.PublicKey, kept: Path) -> None:
    """A signature that lay elsewhere shows what the folder held when it was made."""
    text = _text(kept)
    for name in names:
        try:
            if text is not None:
                signing.check(read_file(verifier.run.path / name, MANIFEST_LIMIT), text, key)
                way = say("is of {name}: nothing up to it was altered or taken away", name=name)
                return verifier.add("signature", kept, UNCHANGED, way)
        except signing.SignatureError:
            continue
    return verifier.add("signature", kept, ALTERED, say("is of nothing that is there: it was altered, or taken away"))


def _own(signature: str | None) -> signing.PublicKey | None:
    """The user's own public key, if a signature says that it is by it."""
    path = signing.settings_folder() / signing.PUBLIC
    if signature is None or not path.is_file():
        return None
    key = signing.read_public(str(path))
    return key if signing.key_id(signature) == key.name else None


def _text(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    with open_file(path) as file:
        return file.read(1 << 16).decode("utf-8", "replace")


# --- what records say of files and figures ------------------------------------------------------------------------------------


class Owners:
    """Which files records vouch for, and which of them a killed command has left aside."""

    def __init__(self, verifier: Verifier, sealed: Mapping[str, Any], chain: Chain) -> None:
        self.run, self.chain = verifier.run, chain
        self.before = merged_files(sealed, chain.records[:-1])
        self._of: dict[str, Record] = {name: record for record in chain.records for name, value in record.files.items() if value}

    def of(self, name: str) -> Record | None:
        """The record that vouches for a file; None if the seal does: a promoted adapter is a sealed checkpoint's."""
        return None if unit(name) == "adapter" else self._of.get(name)

    def waits(self, name: str, value: object) -> bool:
        """Whether the newest record's file lies aside, whole, and what stands in its place is still what stood there before."""
        units = {unit(other) for other in self.chain.records[-1].files} if self.chain.records else set()
        if unit(name) not in units:
            return False
        place, aside = self.run.path / name, stage_of(self.run.path, self.chain.records[-1].number)
        if aside.is_symlink() or not aside.is_dir():
            return False
        if value is None:
            return place.is_file() and not place.is_symlink() and hash_file(place) == self.before.get(name)
        staged = aside / name
        if staged.is_symlink() or not staged.is_file() or hash_file(staged) != value:
            return False
        return not os.path.lexists(place) or (not place.is_symlink() and place.is_file() and hash_file(place) == self.before.get(name))


def verify_figures(verifier: Verifier, chain: Chain) -> None:
    """The figures of the manifest against the files that they come from."""
    found = verifier.manifest.get("evaluation")
    sound = {part.name for part in verifier.parts if part.state == UNCHANGED and part.kind in ("file", "later")}
    file, files = verifier.run.path / EVALUATION, verifier.manifest.get("files") or {}
    there = EVALUATION in sound and file.is_file() and hash_file(file) == files[EVALUATION]  # one that waits is in its place later
    if isinstance(found, Mapping) and there:
        try:
            result = read_json(read_file(file))
        except (OSError, ValueError) as error:
            verifier.add("figures", EVALUATION, ALTERED, say("cannot be read: {error}", error=error))
            return
        shared = [key for key in found if isinstance(result, dict) and key in result]
        wrong = [key for key in shared if json.dumps(found[key], sort_keys=True) != json.dumps(result[key], sort_keys=True)]
        if wrong or not shared:
            way = say("does not say what the manifest says of it: {names}", names=", ".join(wrong) or say("nothing of it"))
            verifier.add("figures", EVALUATION, ALTERED, way)
        else:
            verifier.add("figures", EVALUATION, UNCHANGED, say("says what the manifest says of it"))
    for record in chain.records:
        chosen = record.entries.get("chosen")
        if not isinstance(chosen, Mapping) or verifier.run.log_file.name not in sound:
            continue
        losses = {row["step"]: row["held_out_loss"] for row in checkpoint_rows(verifier.run, {})}
        if chosen.get("held_out_loss") != losses.get(chosen.get("step")):
            verifier.add("figures", record.name, ALTERED, say("gives the promoted step a loss that the run's log does not"))
