"""LoRA files beside ``inspect``: ``loraforge lora resize``, ``merge`` and ``extract``."""
