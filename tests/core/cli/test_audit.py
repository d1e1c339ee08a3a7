# SPDX-License-Identifier: Apache-2.0
"""The commands verify and card."""

from __future__ import annotations

import json
import sys

from builders.sealed_runs import flip

from loraforge.audit.verify import verify
from loraforge.runs import provenance


def test_verify_says_what_was_proved_and_what_was_not(sealed, command):
    run, seal = sealed
    code, out, _ = command("verify", run.path)
    assert code == 0 and "Nothing was altered" in out and "Not proved: that manifest.json itself" in out and seal in out
    code, out, _ = command("verify", run.path, "--seal", seal.upper())
    assert code == 0 and "the file whose seal you kept" in out and "Not proved: that manifest.json itself" not in out
    flip(run.adapter / "adapter_model.safetensors")
    code, out, _ = command("verify", run.path, "--no-data")
    assert code == 1 and "adapter/adapter_model.safetensors" in out and "Not everything is as it was" in out
    code, out, _ = command("verify", run.path, "--json")
    result = json.loads(out)
    assert code == 1 and result["sound"] is False and result["seal"] == seal
    assert [p["name"] for p in result["parts"] if p["state"] == "altered"] == ["adapter/adapter_model.safetensors"]


def test_the_card_is_written_from_the_manifest_and_an_equal_one_keeps_the_seal(sealed, host, command):
    run, _ = sealed
    code, out, _ = command("card", run.path)
    assert code == 0 and out.splitlines()[0] == str(run.path / "model-card.md")
    after = verify(host, run.path).seal
    assert verify(host, run.path).sound
    assert command("card", run.path)[0] == 0 and verify(host, run.path).seal == after
    text = (run.path / "model-card.md").read_text(encoding="utf-8")
    digest = provenance.hash_file(run.adapter / "adapter_model.safetensors")
    for word in ("library_name: peft", "## Data / 数据", run.manifest()["data"]["sha256"], digest, "loraforge verify", "learning_rate"):
        assert word in text, word


def test_verify_and_card_do_not_import_torch(sealed):
    import subprocess

    run, _ = sealed
    code = (
        "import sys; from loraforge.cli.main import main\n"
        "for a in (['verify', '--help'], ['verify', sys.argv[1]], ['card', sys.argv[1]]):\n"
        "    try: main(a)\n"
        "    except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
