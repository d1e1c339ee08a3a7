# SPDX-License-Identifier: Apache-2.0
"""Signing: the command that makes a key, and the key that the other commands sign with. torch is not imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import RunError
from ..messages import speaker
from ..terminal import quoted, show
from .options import JSON, emit

if TYPE_CHECKING:
    from ..runs.signing import Signer

say = speaker(__name__)

PASSPHRASE = "LORAFORGE_KEY_PASSPHRASE"
KEY = click.option("--key", metavar="FILE", help="Sign with this secret key instead of the one that `keygen` made; `none` signs nothing.")


@click.command()
@click.option("--name", "who", default="", help="Your name or your firm's; it will stand in every signature.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Make the keys here instead of in your folder of settings.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase; without it nobody can sign with the key.")
@JSON
def keygen(who: str, out: Path | None, passphrase: bool, as_json: bool) -> None:
    """Make a key pair. From then on every run is signed at its end, and so is all that is added to it."""
    from ..runs import signing
    from ..runs.folder import RunFolder

    run = next((place for place in [out, *out.absolute().parents] if RunFolder(place).begun()), None) if out is not None else None
    if run is not None:
        raise RunError(say("{path} is a run's folder, which others will get. Keep a secret key elsewhere.", path=run))
    given = _new_passphrase() if passphrase else ""
    secret, public, key = signing.generate(out or signing.settings_folder(), who, given)
    if as_json:
        emit({"secret_key": secret, "public_key": public, "id": key.name, "key": key.text})
        return
    show(say("The secret key: {path}. It never leaves this computer; whoever has it can sign in your name.", path=secret))
    show(say("The public key: {path} ({name})", path=public, name=key.name))
    show(f"  {key.text}")
    show(say("Give the public key to those who will verify: loraforge verify RUN --public-key {path}", path=quoted(public)))
    if out is None:
        show(say("From now on train, eval, export, promote and card sign what they write."))
    else:
        show(say("Sign with --key {path}.", path=quoted(secret)))


def _new_passphrase() -> str:
    given = os.environ.get(PASSPHRASE) or click.prompt(say("Passphrase"), hide_input=True, confirmation_prompt=True, err=True)
    return str(given)


def signer_of(given: str | None) -> Signer | None:
    """The key to sign with: the one that was named, or the user's own if there is one. It is opened before the work begins.

    Raises:
        RunError: if it cannot be used.
    """
    from ..runs import signing

    if given is not None and given.lower() == "none":
        return None
    path = Path(given).expanduser() if given is not None else signing.settings_folder() / signing.SECRET
    if given is None and not os.path.lexists(path):
        return None

    def ask() -> str:
        if (known := os.environ.get(PASSPHRASE)) is not None:
            return known
        if not sys.stdin.isatty():
            raise RunError(
                say(
                    "{path} has a passphrase, and nobody can be asked for it here: put it into the variable {name}, or sign nothing with "
                    "--key none.",
                    path=path,
                    name=PASSPHRASE,
                )
            )
        return str(click.prompt(say("Passphrase of {path}", path=path), hide_input=True, err=True))

    return signing.read_secret(path, ask)


COMMANDS = (keygen,)
