"""What the tests share: tiny bases, tables, pictures, malformed files, and a way to kill a run at any instant."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
