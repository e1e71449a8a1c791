"""What memory there is for this process, as its control groups say it."""

from pathlib import Path

import pytest

from rollup_operator.sharing.memory import MIB, Budgets, memory_limit


def machine(root: Path, group: str, **limits: str) -> Path:
    """A machine's files. `limits`: by the path of a file below /sys/fs/cgroup, its slashes written `__`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, limit in limits.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path = path.with_name(path.name.replace("_max", ".max").replace("memory_limit", "memory.limit"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    return root


@pytest.mark.parametrize(
    ("group", "limits", "mib"),
    [
        ("0::/\n", {"memory_max": str(512 * MIB)}, 512),
        ("0::/kubepods/pod1/c1\n", {"memory_max": str(300 * MIB)}, 300),
        ("0::/a/b\n", {"a__b__memory_max": "max", "a__memory_max": str(700 * MIB)}, 700),
        ("9:cpu:/x\n4:memory:/x/y\n", {"memory__x__y__memory_limit_in_bytes": str(256 * MIB)}, 256),
        ("4:cpu,memory:/x\n", {"memory__memory_limit_in_bytes": str(128 * MIB)}, 128),
    ],
)
def test_the_least_limit_counts(tmp_path: Path, group: str, limits: dict[str, str], mib: int) -> None:
    assert memory_limit(machine(tmp_path, group, **limits)) == mib * MIB


@pytest.mark.parametrize(
    ("group", "limits"),
    [
        ("", {}),
        ("0::/\n", {"memory_max": "max"}),
        ("4:memory:/x\n", {"memory__x__memory_limit_in_bytes": str(2**63 - 4096)}),
        ("no group\n::\n0:\n", {}),
    ],
)
def test_without_a_limit_it_is_the_machines(tmp_path: Path, group: str, limits: dict[str, str]) -> None:
    assert memory_limit(machine(tmp_path, group, **limits)) > 256 * MIB


def test_the_parts_leave_the_process_enough() -> None:
    budgets = Budgets.of(1024 * MIB)
    parts = budgets.embedded + budgets.pages + budgets.searches + budgets.answers + 2 * budgets.bodies
    parts += budgets.connections
    assert budgets.memory - parts >= 200 * MIB
