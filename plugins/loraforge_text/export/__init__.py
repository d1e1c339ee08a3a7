"""Exporters of the text task."""
