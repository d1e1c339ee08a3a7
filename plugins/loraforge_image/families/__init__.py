"""The model families sd15, sd2 and sdxl: parts, names, training, drawing, and the memory that they need."""
