"""Exporters of the image task."""
