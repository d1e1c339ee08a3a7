# SPDX-License-Identifier: Apache-2.0
"""One contender, in this process: ``python -m benchmarks.contender SPEC RESULT``. Only the standard library until it is known which.

What a contender module has: ``train(spec) -> dict`` with ``steps``, a list of (time, units so far), and ``adapter``, a folder. The peak of
memory and the end are noted when it returns, unless it says them itself; after that the machine's rate is measured in the same process.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from .measuring import vmhwm


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """What ``RESULT`` will hold."""
    module = importlib.import_module(f"benchmarks.contenders.{spec['kind']}")
    result: dict[str, Any] = dict(module.train(spec))
    # What a contender that is a command of its own has measured itself stays.
    result = {"finished": time.time(), "peak": vmhwm(), "gpu_peak": _gpu_peak(), **result}
    if spec.get("gemms"):
        from .limit import rates

        device, kind = spec.get("device", "cpu"), spec.get("dtype", "float32")
        measured = rates(spec["gemms"], spec.get("convolutions", ()), spec.get("rate_seconds", 2.0), device, kind)
        result["rate"], result["best_rate"] = measured
    return result


def _gpu_peak() -> float:
    """MB that torch held on the GPU at most; 0 without one."""
    torch = sys.modules.get("torch")
    return float(torch.cuda.max_memory_allocated()) / 2**20 if torch is not None and torch.cuda.is_available() else 0.0


def main(given: str, wanted: str) -> int:
    """Runs it and writes the result, or the reason why there is none."""
    spec = json.loads(Path(given).read_text(encoding="utf-8"))
    try:
        result = run(spec)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        result = {"reason": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    Path(wanted).write_text(json.dumps(result), encoding="utf-8")
    return 1 if "reason" in result else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
