"""What computes the same as transformers, in less time and memory. Its modules import torch when they are imported."""
