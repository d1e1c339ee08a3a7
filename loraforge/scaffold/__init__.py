"""Packages for people who write plugins: ``loraforge new-plugin``. The files in ``kinds`` are the examples of docs/hooks.md as well."""
