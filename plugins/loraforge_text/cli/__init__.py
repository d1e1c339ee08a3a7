"""The commands that the text plugin adds: ``chat``, ``golden``, ``metadata``."""
