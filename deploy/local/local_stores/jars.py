"""Gets what a kind of node is made of, once.

That is: its jars, through Maven; the lines that start it, compiled; the folders of modules of a node that has such; and
an archive of the classes that it loads, with which it starts in half the time.
"""

import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local_stores.errors import StoreNodeError
from local_stores.java import Jdk, find_jdk
from local_stores.kinds import Kind
from local_stores.maven import fetch, say
from local_stores.modules import STAND_INS, link_modules
from local_tools.folder import building, cache_root

_HERE = Path(__file__).resolve().parent
_LOGGING = _HERE / "log4j2.properties"


@dataclass(frozen=True)
class Installed:
    """A kind that is ready to be started."""

    kind: Kind
    jdk: Jdk
    folder: Path

    @property
    def class_path(self) -> str:
        """What Java is to load it from; always in the same order, which the archive wants."""
        modules = {path.name for path in self.module_jars.values()}
        jars = sorted((self.folder / "lib").glob("*.jar"))
        return ":".join(map(str, [self.launcher, *(jar for jar in jars if jar.name not in modules)]))

    @property
    def launcher(self) -> Path:
        """The compiled lines that start a node."""
        return self.folder / f"launch-{_digest(_source(self.kind, self.kind.launcher) + _LOGGING.read_text())}.jar"

    @property
    def module_jars(self) -> Mapping[str, Path]:
        """The jars that the node itself loads, each by the name of its module."""
        names = (*self.kind.modules, *self.kind.security_modules)
        return {name: self.folder / "lib" / f"{name}-{self.kind.release}.jar" for name in names}

    @property
    def module_folder(self) -> Path:
        """Where the modules are that the node itself loads."""
        made_by = _source(self.kind, STAND_INS) + (_HERE / "modules.py").read_text() + Path(__file__).read_text()
        return self.folder / f"modules-{_digest(made_by)}"

    def modules(self, *, secured: bool) -> Path | None:
        """Return the folder of what the node itself loads; None for a node that Java loads whole."""
        return self.module_folder / ("secured" if secured else "plain") if self.kind.modules else None

    @property
    def archive(self) -> Path:
        """The archive of loaded classes; of use only to the very JDK that made it. Empty where that made none."""
        return self.folder / f"classes-{_digest(self.launcher.name + self.jdk.release)}.jsa"

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return (
            (self.folder / "lib").is_dir()
            and self.launcher.exists()
            and self.archive.exists()
            and (not self.kind.modules or self.module_folder.is_dir())
        )


def cache_folder(kind: Kind) -> Path:
    """Return where a kind is kept."""
    return cache_root() / "stores" / f"{kind.name}-{kind.version}"


def install(kind: Kind, train: Callable[[Installed, Path], None]) -> Installed:
    """Return a kind ready to be started, got first if need be (half a minute, with progress on stderr).

    `train` is to start and end a node that writes its classes to the given path. Raises ToolMissing when there is no
    JDK or no Maven that would do, StoreNodeError when Maven fails or a jar is not the one that is pinned.
    """
    installed = Installed(kind, find_jdk(kind.jdk), cache_folder(kind))
    if installed.complete:
        return installed
    folder = installed.folder
    with building(folder, say) as work:
        if not (folder / "lib").is_dir():
            fetch(kind.bundle, work).rename(folder / "lib")
        if not installed.launcher.exists():
            _compile(installed, kind.launcher, work / "launcher", _LOGGING).replace(installed.launcher)
        if kind.modules and not installed.module_folder.is_dir():
            _make_modules(installed, work / "modules").rename(installed.module_folder)
        if not installed.archive.exists():
            say(f"{kind.title}: starting it once, to make its next starts quick; 10 to 20 seconds, once")
            made = work / "classes.jsa"
            train(installed, made)
            made.touch()
            made.replace(installed.archive)
    return installed


def _source(kind: Kind, name: str) -> str:
    """Return a source of this folder as this kind needs it."""
    text = (_HERE / name).read_text()
    for word, value in kind.words.items():
        text = text.replace(f"@{word}@", value)
    return text


def _compile(installed: Installed, name: str, work: Path, *more: Path) -> Path:
    """Compile a source of this folder and return it as a jar, with these files beside."""
    text = _source(installed.kind, name)
    source = work / f"{text.partition('public class ')[2].partition(' ')[0]}.java"
    work.mkdir()
    source.write_text(text)
    command = [installed.jdk.tool("javac"), "-proc:none", "-cp", f"{installed.folder / 'lib'}/*"]
    done = subprocess.run(
        [*command, "-d", str(work / "made"), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StoreNodeError(f"{installed.kind.title}: {name} does not compile:\n{done.stdout}{done.stderr}")
    # A jar, not a folder of classes: an archive of classes takes none from folders.
    with zipfile.ZipFile(work / "made.jar", "w") as jar:
        for file in (*sorted((work / "made").glob("*.class")), *more):
            jar.write(file, file.name)
    return work / "made.jar"


def _make_modules(installed: Installed, folder: Path) -> Path:
    """Make the folders of modules that a node loads, without and with security."""
    kind = installed.kind
    folder.mkdir()
    stand_ins = _compile(installed, STAND_INS, folder / "stand-ins")
    jars, shared = installed.module_jars, [installed.module_jars[module] for module in kind.modules]
    plain = {module: [jars[module]] for module in kind.modules}
    # Security builds on classes of the others too, and no module sees into one that it does not extend.
    secured = {module: [jars[module], *(() if i else shared)] for i, module in enumerate(kind.security_modules)}
    link_modules(folder / "plain", kind.release, plain, stand_ins)
    link_modules(folder / "secured", kind.release, plain | secured, stand_ins)
    shutil.rmtree(folder / "stand-ins")
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
