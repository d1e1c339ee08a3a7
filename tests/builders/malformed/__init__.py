"""Malformed inputs. Each is built into a folder of its own."""
