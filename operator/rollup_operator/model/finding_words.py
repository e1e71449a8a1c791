"""How a verification's findings are called."""

from collections.abc import Mapping

KINDS: Mapping[str, tuple[str, str]] = {
    "differs": ("differs", "differ"),
    "missing": ("is missing", "are missing"),
    "extra": ("is extra", "are extra"),
    "duplicate": ("is stored twice", "are stored twice"),
}
"""What is wrong with a bucket, and with several."""


def wrong_of(buckets: Mapping[str, int]) -> str:
    """Say how many buckets are not as they should be; empty: none."""
    return ", ".join(f"{count:,} {words[count != 1]}" for kind, words in KINDS.items() if (count := buckets[kind]))
