# SPDX-License-Identifier: Apache-2.0
"""Whether anything of a finished run was altered: ``verify``. Torch is not imported."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..messages import speaker
from ..runs import provenance
from ..runs.folder import RunFolder
from ..runs.provenance import hash_file
from ..runs.records import CARD, EVALUATION, REVIEW_KEYS, Record, merged, read_chain
from ..runs.seal import read_manifest, sealed_files
from .chain import Owners, verify_figures, verify_records, verify_seal, verify_signatures
from .rows import verify_data
from .verdicts import ADDED, ALTERED, DIFFERS, MISSING, UNCHANGED, UNCHECKED, UNRECORDED, Verification, Verifier

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost
    from ..runs.signing import PublicKey

say = speaker(__name__)

# A file that is added here would be loaded, or shown, as if it were the run's.
_CLOSED = ("adapter", "checkpoints", "export", "samples")


# LoRAForge itself reads these.
_READ = ("config.yaml", "log.jsonl", EVALUATION, REVIEW_KEYS, CARD)


def verify(
    host: PluginHost,
    folder: Path,
    seal: str | None = None,
    data: bool = True,
    key: PublicKey | None = None,
    signature: Path | None = None,
) -> Verification:
    """Computes everything anew that the manifest of a run and the records of later commands name, and compares. Reads the run's folder,
    its data and its base, and of the runs before it the manifest and the adapter.

    Args:
        seal: what was kept elsewhere when the run was trained, or the hash of a record.
        data: whether the data are read.
        key: whose signatures the manifest and all records must have.
        signature: a ``.minisig`` file that was kept elsewhere.

    Raises:
        RunError: if the folder is no run, or its manifest cannot be read.
        ConfigError: if ``seal`` is none.
    """
    wanted = (seal or "").strip().lower().removeprefix("sha256:")
    if seal is not None and not re.fullmatch("[0-9a-f]{64}", wanted):
        raise ConfigError(say("--seal: a seal is 64 digits and letters a to f, as `train` printed it; got '{value}'.", value=seal))
    run = RunFolder(folder)
    sealed, digest = read_manifest(run, sealed=True)
    chain = read_chain(run.path, sealed, digest)
    verifier = Verifier(host, run, merged(sealed, chain.records))
    anchored = verify_seal(verifier, digest, wanted, chain)
    verify_records(verifier, chain)
    signed = verify_signatures(verifier, chain, key, signature)
    _files(verifier, Owners(verifier, sealed, chain))
    verify_figures(verifier, chain)
    _base(verifier)
    _brought(verifier)
    verify_data(verifier, data)
    _code(verifier)
    _lineage(verifier)
    newest = chain.records[-1].digest if chain.records else digest
    return Verification(folder, digest, anchored, tuple(verifier.parts), newest, signed)


def _files(verifier: Verifier, owners: Owners) -> None:
    """Every file under the seal, and those that records vouch for."""
    recorded = verifier.entry("file", "files")
    if recorded is None:
        return
    for name, value in recorded.items():
        record = owners.of(name)
        if owners.waits(name, value):
            way = say("waits to be put in its place: the command was interrupted, and the next one will do it")
            verifier.add("later" if record else "file", name, UNCHANGED, way)
        else:
            _compare(verifier, "later" if record else "file", name, _inside(verifier.run.path, name), value, record)
    alike = {_folded(name): name for name in recorded}
    for name, path in sealed_files(verifier.run.path):
        if name in recorded or owners.waits(name, None):
            continue
        top = _folded(name).partition("/")[0]
        if _folded(name) in alike:
            way = say("is called almost like {name}: on another computer it takes its place", name=alike[_folded(name)])
            verifier.add("file", name, ADDED, way)
        elif top in _CLOSED or _folded(name) in _READ:
            what = say("is a link that was put there afterwards") if path.is_symlink() else say("was put there afterwards")
            verifier.add("file", name, ADDED, what)
        else:
            verifier.add("file", name, UNRECORDED, say("is not part of what was sealed; nothing vouches for it"))


def _folded(name: str) -> str:
    """Equal for names that some computers, or a reader's eyes, take for one."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in plain if unicodedata.category(c) != "Cf")


def _base(verifier: Verifier) -> None:
    """The base's files, where they still are, and what has joined them."""
    recorded = verifier.entry("base", "base", "files")
    if recorded is None:
        return
    if not recorded:
        verifier.add("base", "base", UNRECORDED, say("the model family names no files of the base"))
        return
    entry = verifier.manifest["base"]
    folder = entry.get("folder")
    if not isinstance(folder, str) or not os.path.isdir(folder):
        verifier.add("base", folder, UNCHECKED, say("the base model is not on this computer, or no longer where it was"))
        return
    for name, value in recorded.items():
        _compare(verifier, "base", name, _inside(Path(folder), name, blobs=True), value)
    others = entry.get("others")
    if provenance.is_one_file(str(entry.get("name")), recorded):
        return
    inside = [name for name in recorded if _inside(Path(folder), name, blobs=True) is not None]
    for name in provenance.beside(Path(folder), inside):
        if isinstance(others, list) and name in others:
            continue
        if not provenance.is_loaded(name):
            if isinstance(others, list) and not name.rpartition("/")[2].startswith("."):
                verifier.add("base", name, UNRECORDED, say("is no part of the base, and no loader of models reads it"))
        elif isinstance(others, list):
            verifier.add("base", name, ADDED, say("was put beside the base afterwards; whoever loads the base may load it too"))
        else:
            way = say("lies beside the base, and may be loaded with it; this run's LoRAForge did not list such files yet")
            verifier.add("base", name, UNRECORDED, way)


def _brought(verifier: Verifier) -> None:
    """Files that keys of the config name, where they were."""
    if not (isinstance(verifier.manifest.get("base"), dict) and verifier.manifest["base"].get("brought")):
        return  # most families bring none, and earlier versions said nothing of them
    for name, value in (verifier.entry("base", "base", "brought") or {}).items():
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            _compare(verifier, "base", name, Path(value["path"]), value.get("sha256"))
        else:
            verifier.add("base", name, ALTERED, say("the manifest's entry is not of the form that LoRAForge writes"))


def _compare(verifier: Verifier, kind: str, name: str, path: Path | None, value: object, record: Record | None = None) -> None:
    """One file against its hash.

    Args:
        record: names it; otherwise the manifest does.
    """
    if path is None:
        verifier.add(kind, name, ALTERED, say("leads out of its folder, by its name or through a link; it was not read"))
    elif not os.path.isfile(path):  # unlike Path.is_file, it takes any name
        verifier.add(kind, name, MISSING, say("is gone"))
    elif not os.access(path, os.R_OK):
        verifier.add(kind, name, MISSING, say("must not be read by this user"))
    elif hash_file(path) != value:
        verifier.add(kind, name, ALTERED, say("is not the file that the manifest names: its content is another"))
    elif record is not None:
        way = say("is the file that {record} names ({command}, {time})", record=record.name, command=record.command, time=record.time)
        verifier.add(kind, name, UNCHANGED, way)
    else:
        verifier.add(kind, name, UNCHANGED, say("is the file that the manifest names"))


def _code(verifier: Verifier) -> None:
    """The programs that made the run, against those that are installed here."""
    for kind, key, here in (("code", "code", provenance.code(verifier.host)), ("version", "versions", provenance.versions())):
        recorded = verifier.entry(kind, key)
        for name, value in (recorded or {}).items():
            if here.get(name) == value:
                verifier.add(kind, name, UNCHANGED, say("is the one that made the run"))
            elif name not in here:
                verifier.add(kind, name, DIFFERS, say("is not installed, or not in use, here"))
            else:
                then, now = (str(value)[:16], str(here[name])[:16])
                verifier.add(kind, name, DIFFERS, say("was {then} when the run was made; here it is {now}", then=then, now=now))


def _lineage(verifier: Verifier) -> None:
    """The runs before it, where they still are: their seals, and the adapters that were taken up."""
    if not verifier.manifest.get("lineage"):
        return
    for parent in verifier.entry("lineage", "lineage", form=list) or ():
        if not isinstance(parent, Mapping) or not isinstance(parent.get("run"), str):
            verifier.add("lineage", "lineage", ALTERED, say("the manifest's entry is not of the form that LoRAForge writes"))
            continue
        run = RunFolder(Path(parent["run"]))
        if not os.path.isfile(run.manifest_file) or run.manifest_file.is_symlink():
            verifier.add("lineage", run.path, UNCHECKED, say("the earlier run is not on this computer, or no longer where it was"))
            continue
        if ancestor(parent) is None:
            verifier.add("lineage", run.path, ALTERED, say("the earlier run no longer holds the adapter that this one continued from"))
        elif parent.get("seal") is None:
            verifier.add(
                "lineage",
                run.path,
                UNRECORDED,
                say("the earlier run had no seal; it still holds the adapter that this one continued from"),
            )
        elif parent["seal"] != hash_file(run.manifest_file):
            verifier.add(
                "lineage",
                run.path,
                DIFFERS,
                say(
                    "the earlier run's manifest is another file than then: an earlier LoRAForge sealed it anew, or it was altered; it "
                    "still holds the adapter that this one continued from"
                ),
            )
        else:
            verifier.add("lineage", run.path, UNCHANGED, say("is the earlier run that this one continued from"))


def ancestor(parent: Mapping[str, Any]) -> Path | None:
    """The folder or the exported file of the adapter that an entry of ``lineage`` names, by its hash; None if the earlier run does not hold
    it any more."""
    run = RunFolder(Path(str(parent.get("run"))))
    for folder in (run.adapter, *(checkpoint / "adapter" for checkpoint in run.checkpoints())):
        file = folder / "adapter_model.safetensors"
        if file.is_file() and not file.is_symlink() and hash_file(file) == parent.get("adapter"):
            return folder
    exported = sorted(f for f in run.exports.glob("*/*.safetensors") if f.name != "adapter_model.safetensors")
    fits = (f for f in exported if f.is_file() and not f.is_symlink() and hash_file(f) == parent.get("adapter"))
    return next(fits, None)


def _inside(root: Path, name: str, *, blobs: bool = False) -> Path | None:
    """The file that a manifest names in ``root``; None if the name, or a link on the way, leads out of it.

    Args:
        blobs: follow the links of a hub's cache, whose snapshots are links to ``blobs`` beside them.
    """
    pieces = PureWindowsPath(name).parts  # splits at / and at \, and knows drives, on every system
    if not name or "\0" in name or ".." in pieces or PureWindowsPath(name).anchor or any("\ud800" <= c <= "\udfff" for c in name):
        return None
    path = root / name
    links = [step for step in (path, *path.parents) if step != root and root in step.parents and os.path.islink(step)]
    if not links:
        return path
    caches = [place.parent / "blobs" for place in (root, *root.parents) if place.name == "snapshots"] if blobs else []
    target = path.resolve()
    return path if blobs and any(home.resolve() in target.parents for home in (root, *caches)) else None
