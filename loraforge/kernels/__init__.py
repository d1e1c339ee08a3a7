"""What computes the same as torch and peft, in less time and memory. Imports torch when it is imported."""
