"""What computes the same as diffusers, in less time and memory. Its modules import torch when they are imported."""
