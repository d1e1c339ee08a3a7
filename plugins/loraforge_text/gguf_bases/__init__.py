"""GGUF files as bases: read, turned once into a folder of transformers, and kept."""
