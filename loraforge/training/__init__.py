"""The training loop and its parts. torch is imported inside the functions that need it."""
