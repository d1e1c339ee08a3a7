# SPDX-License-Identifier: Apache-2.0
"""What the peers' scripts share: they run unchanged in this process, and torch says when an optimizer has made a step."""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def run(script: Path, arguments: Sequence[str], batch_size: int, wanted: int) -> list[tuple[float, int]]:
    """Runs a script as ``python SCRIPT ARGUMENTS`` would.

    Args:
        wanted: pictures that are to be trained on in all.

    Returns:
        (time, pictures so far) at the end of every optimizer step.

    Raises:
        FileNotFoundError: if it is not there.
        RuntimeError: if it failed, or trained on another number of pictures.
    """
    if not script.is_file():
        raise FileNotFoundError(f"there is no {script}")
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    steps: list[tuple[float, int]] = []

    def note(*given: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        steps.append((time.time(), (len(steps) + 1) * batch_size))

    handle = register_optimizer_step_post_hook(note)
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{script.name} ended with {ended.code}") from None
    finally:
        handle.remove()
        sys.argv, sys.path[:] = before
    if not steps or steps[-1][1] != wanted:
        raise RuntimeError(f"{script.name} trained on {steps[-1][1] if steps else 0} pictures, the others on {wanted}")
    return steps
