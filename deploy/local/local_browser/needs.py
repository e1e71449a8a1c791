"""What a browser needs of the machine."""

import shutil

CHROMIUM, DRIVER = "chromium", "chromedriver"
"""Commands."""
PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")
"""Of Debian. Ubuntu has the first as a snap only, which no container can run."""


def why_not() -> str | None:
    """Say which command is missing on this machine, and the cure; None if all are there."""
    missing = [name for name in (CHROMIUM, DRIVER) if shutil.which(name) is None]
    if not missing:
        return None
    return f"missing: {', '.join(missing)}; on Debian: apt-get install {' '.join(PACKAGES)} (make chromium)"
