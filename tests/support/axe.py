"""axe-core, Deque's checker of accessibility (MPL-2.0), from the npm registry: fetched once into the cache."""

import base64
import hashlib
import subprocess
import sys
import tarfile

from local_tools.folder import building, cache_root

VERSION = "4.14.1"
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""SHA-512 of the package, as the registry has it."""


def source() -> str:
    """Return the script. Raises FileNotFoundError where there is no npm, AssertionError for another package."""
    folder = cache_root() / "axe-core" / VERSION
    script = folder / "axe.min.js"
    if not script.exists():
        with building(folder, lambda text: print(text, file=sys.stderr)) as work:
            subprocess.run(
                ["npm", "pack", f"axe-core@{VERSION}", "--silent", "--ignore-scripts", "--pack-destination", str(work)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=90,
            )
            (package,) = work.glob("*.tgz")
            found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
            assert found == INTEGRITY, f"axe-core {VERSION} is another package: sha512-{found}"
            with tarfile.open(package) as archive:
                archive.extract("package/axe.min.js", work, filter="data")
            (work / "package" / "axe.min.js").rename(script)
    return script.read_text()
