"""Numbers of things as text."""


def counted(number: int, thing: str) -> str:
    """Write a number of things: `1 page`, `12,345 pages`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
