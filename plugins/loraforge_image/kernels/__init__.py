"""What computes the same as diffusers, in less time and memory. Imports torch when it is imported."""
