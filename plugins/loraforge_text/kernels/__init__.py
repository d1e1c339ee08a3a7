"""What computes the same as transformers, in less time and memory. Imports torch when it is imported."""
