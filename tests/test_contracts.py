"""The contracts of import-linter in pyproject.toml catch what they are for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Fault: the file that gets it, what it gets, and the contract that must break.
FAULTS = {
    "an upward import": (
        "core/box.py",
        "from ddgm_dist.runs import progress as _progress\n",
        "imports point down only",
    ),
    "a circle by type-checking imports": (
        "core/box.py",
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ddgm_dist.core import noise as _noise\n",
        "No circles within a room",
    ),
    "a file in the root": (
        "loose.py",
        "from ddgm_dist.core import box as _box\n",
        "imports point down only",
    ),
    "ray in the wrong room": (
        "tile/host.py",
        "def _ray():\n    import ray\n    return ray\n",
        "ray is imported below",
    ),
    "torch in the plan": ("planning/calls.py", "import torch as _torch\n", "no torch"),
    "I/O in the physics": ("operators/base.py", "import zarr as _zarr\n", "do no I/O"),
}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command as run; run()"
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {program}"]
    return subprocess.run(
        [*words, "--no-cache"], cwd=root, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def copy(tmp_path: Path, pytestconfig: pytest.Config) -> Path:
    for name in ("ddgm_dist", "pyproject.toml"):
        source = pytestconfig.rootpath / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def test_the_package_keeps_the_contracts(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(copy: Path, fault: str) -> None:
    name, text, contract = FAULTS[fault]
    path = copy / "ddgm_dist" / name
    path.write_text((path.read_text() if path.exists() else '"""A fault."""\n') + "\n" + text)
    done = lint(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert any(contract in line for line in broken), done.stdout
