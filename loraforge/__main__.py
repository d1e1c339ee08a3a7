"""``loraforge`` and ``python -m loraforge``."""

from .allocator import start_anew


def main() -> None:
    """The entry point."""
    start_anew()
    from .cli import main as command

    command()


if __name__ == "__main__":
    main()
