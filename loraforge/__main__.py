# SPDX-License-Identifier: Apache-2.0
"""``loraforge`` and ``python -m loraforge``."""

import gc

from .training.allocator import start_anew


def main() -> None:
    """The entry point."""
    start_anew()
    # torch, transformers and diffusers make a million objects that stay. To look through them for garbage again and again while they are
    # imported, and all of them once more at the end, took two of the fourteen seconds of a short run.
    gc.set_threshold(50_000, 20, 100)
    try:
        from .cli.main import main as command

        command()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
