"""Lays out the modules of a node that loads such itself: a folder each, with its jar and what describes it."""

import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

STAND_INS = "StandIns.java.in"
"""The source of what stands in for modules that Maven has not."""

_DESCRIPTION = "plugin-descriptor.properties"
_STAND_INS = """description=stand-ins
name=stand-ins
version={release}
elasticsearch.version={release}
java.version=17
classname=StandIns
"""


def link_modules(folder: Path, release: str, jars: Mapping[str, Sequence[Path]], stand_ins: Path) -> None:
    """Make a folder of modules and of the stand-ins, which are copied.

    `jars` are those of each module, its own first, and are found where they are.
    """
    for name, own in jars.items():
        (folder / name).mkdir(parents=True)
        for jar in own:
            (folder / name / jar.name).symlink_to(jar)
        with zipfile.ZipFile(own[0]) as opened:
            text = opened.read(f"META-INF/es-plugins/{name}/{_DESCRIPTION}").decode()
        # Without the name of a Java module, which could not use what is on the class path.
        (folder / name / _DESCRIPTION).write_text(re.sub(r"(?m)^modulename=.*$", "", text))
    (folder / "stand-ins").mkdir()
    shutil.copy(stand_ins, folder / "stand-ins" / "stand-ins.jar")
    (folder / "stand-ins" / _DESCRIPTION).write_text(_STAND_INS.format(release=release))
