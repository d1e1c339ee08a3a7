# SPDX-License-Identifier: Apache-2.0
"""tiny-chat: a chat model of a few megabytes, trained by this package, for trying LoRAForge without a download.

`FOLDER` is the trained model. ``python -m loraforge_text.tiny_chat.build --out FOLDER`` trains it again.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
