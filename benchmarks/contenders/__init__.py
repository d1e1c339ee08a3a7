"""What is compared: one module for each kind, with ``train(spec) -> {"steps": ..., "adapter": ...}``."""
