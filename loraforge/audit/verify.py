"""Whether anything of a finished run was altered: ``verify``. Torch is not imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..messages import speaker
from ..runs import provenance
from ..runs.folder import RunFolder
from ..runs.provenance import hash_file
from ..runs.seal import SEAL, kept_seal, read_manifest, sealed_files
from ..terminal import quoted
from .rows import verify_data
from .verdicts import ADDED, ALTERED, DIFFERS, MISSING, UNCHANGED, UNCHECKED, UNRECORDED, Verification, Verifier

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost

say = speaker(__name__)

# A file that is added here would be loaded, or shown, as if it were the run's.
_CLOSED = ("adapter", "checkpoints", "export", "samples")


def verify(host: PluginHost, folder: Path, seal: str | None = None, data: bool = True) -> Verification:
    """Computes everything anew that the manifest of a run names, and compares. Reads the run's folder, its data and its base, and of the
    runs before it the manifest and the adapter.

    Args:
        seal: what was kept elsewhere when the run was trained.
        data: whether the data are read.

    Raises:
        RunError: if the folder is no run, or its manifest cannot be read.
        ConfigError: if ``seal`` is none.
    """
    wanted = (seal or "").strip().lower().removeprefix("sha256:")
    if seal is not None and not re.fullmatch("[0-9a-f]{64}", wanted):
        raise ConfigError(say("--seal: a seal is 64 digits and letters a to f, as `train` printed it; got '{value}'.", value=seal))
    run = RunFolder(folder)
    manifest, digest = read_manifest(run)
    verifier = Verifier(host, run, manifest)
    _manifest_itself(verifier, digest, wanted)
    _files(verifier)
    _base(verifier)
    verify_data(verifier, data)
    _code(verifier)
    _lineage(verifier)
    return Verification(folder, digest, digest == wanted if wanted else None, tuple(verifier.parts))


def _manifest_itself(verifier: Verifier, digest: str, wanted: str) -> None:
    """manifest.json against the seal beside it, and the one that was kept elsewhere."""
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
    if not wanted:
        verifier.add(
            "seal",
            "--seal",
            UNCHECKED,
            say("no seal that was kept elsewhere was given; manifest and seal file could be changed together"),
        )
    elif wanted == digest:
        verifier.add("seal", "--seal", UNCHANGED, say("manifest.json is the file whose seal was kept elsewhere"))
    elif wanted in (verifier.manifest.get("seals") or ()):
        # Whether that is so is the manifest's own word: it proves nothing by itself.
        way = say("is one that the run had before a later command wrote into it, says the manifest; compare with the new seal")
        verifier.add("seal", "--seal", DIFFERS, way)
    else:
        verifier.add("seal", "--seal", ALTERED, say("manifest.json is not the file whose seal was kept elsewhere"))


def _files(verifier: Verifier) -> None:
    """Every file under the seal."""
    recorded = verifier.entry("file", "files")
    if recorded is None:
        return
    for name, value in recorded.items():
        _compare(verifier, "file", name, _inside(verifier.run.path, name), value)
    for name, path in sealed_files(verifier.run.path):
        if name in recorded:
            continue
        if name.partition("/")[0] in _CLOSED:
            what = say("is a link that was put there afterwards") if path.is_symlink() else say("was put there afterwards")
            verifier.add("file", name, ADDED, what)
        else:
            verifier.add("file", name, UNRECORDED, say("is not part of what was sealed; nothing vouches for it"))


def _base(verifier: Verifier) -> None:
    """The base's files, where they still are."""
    recorded = verifier.entry("base", "base", "files")
    if recorded is None:
        return
    if not recorded:
        verifier.add("base", "base", UNRECORDED, say("the model family names no files of the base"))
        return
    folder = verifier.manifest["base"].get("folder")
    if not isinstance(folder, str) or not os.path.isdir(folder):
        verifier.add("base", folder, UNCHECKED, say("the base model is not on this computer, or no longer where it was"))
        return
    for name, value in recorded.items():
        _compare(verifier, "base", name, _inside(Path(folder), name, blobs=True), value)


def _compare(verifier: Verifier, kind: str, name: str, path: Path | None, value: object) -> None:
    """One file against its hash."""
    if path is None:
        verifier.add(kind, name, ALTERED, say("leads out of its folder, by its name or through a link; it was not read"))
    elif not os.path.isfile(path):  # unlike Path.is_file, it takes any name
        verifier.add(kind, name, MISSING, say("is gone"))
    elif not os.access(path, os.R_OK):
        verifier.add(kind, name, MISSING, say("must not be read by this user"))
    elif hash_file(path) != value:
        verifier.add(kind, name, ALTERED, say("is not the file that the manifest names: its content is another"))
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
                say("the earlier run was sealed anew since; it still holds the adapter that this one continued from"),
            )
        else:
            verifier.add("lineage", run.path, UNCHANGED, say("is the earlier run that this one continued from"))


def ancestor(parent: Mapping[str, Any]) -> Path | None:
    """The folder of the adapter that an entry of ``lineage`` names, by its hash; None if the earlier run does not hold it any more."""
    run = RunFolder(Path(str(parent.get("run"))))
    for folder in (run.adapter, *(checkpoint / "adapter" for checkpoint in run.checkpoints())):
        file = folder / "adapter_model.safetensors"
        if file.is_file() and not file.is_symlink() and hash_file(file) == parent.get("adapter"):
            return folder
    return None


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
