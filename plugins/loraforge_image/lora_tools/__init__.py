# SPDX-License-Identifier: Apache-2.0
"""LoRA files beside ``inspect``: ``loraforge lora resize``, ``merge`` and ``extract``."""
