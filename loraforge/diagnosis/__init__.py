"""What the losses of a run say, in words and pictures."""
