"""The package's surface: cheap to import, and each public name is what it says."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ddgm_dist

HEAVY = ("torch", "ray", "zarr", "tensorstore", "dask", "skimage", "matplotlib", "scipy", "numpy")


def run_python(code: str) -> str:
    """What ``code`` prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "use",
    [
        "import ddgm_dist",
        "import ddgm_dist; dir(ddgm_dist); ddgm_dist.InputError; ddgm_dist.__version__",
        "import ddgm_dist.cli",
        "from ddgm_dist.cli.app import create_app; create_app()",
        "from ddgm_dist.cli import main; assert main(['reconstruct', '--help']) == 0",
        "from ddgm_dist.cli import main; assert main(['plan']) == 2",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(use: str) -> None:
    show = f"import sys; print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert run_python(f"{use}\n{show}").splitlines()[-1] == "loaded:"


def test_the_public_names_are_what_users_need() -> None:
    functions = {name for name in ddgm_dist.__all__ if name.islower() and name != "__version__"}
    assert functions == {
        "reconstruct", "plan", "check", "tune", "simulate", "ingest", "evaluate", "open_result",
        "status", "submit", "train",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(ddgm_dist.__all__) - {"__version__"}))
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(ddgm_dist, name)
    assert found.__name__ == name
    assert getattr(importlib.import_module(found.__module__), name) is found
    assert name in dir(ddgm_dist)


def test_no_public_name_is_hidden_by_a_room() -> None:
    rooms = {path.parent.name for path in Path(ddgm_dist.__file__).parent.glob("*/__init__.py")}
    assert len(rooms) > 15
    assert rooms.isdisjoint(ddgm_dist.__all__)


def test_the_architecture_names_every_room(pytestconfig: pytest.Config) -> None:
    text = (pytestconfig.rootpath / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = [p.parent.name for p in Path(ddgm_dist.__file__).parent.glob("*/__init__.py")]
    assert [room for room in rooms if not re.search(rf"\b{room}/", text)] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute recontsruct"):
        _ = ddgm_dist.recontsruct


def test_the_version_is_a_version() -> None:
    assert isinstance(ddgm_dist.__version__, str)
    assert ddgm_dist.__version__[0].isdigit()


def test_no_module_has_two_names_for_its_logger() -> None:
    for path in Path(ddgm_dist.__file__).parent.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        values = [ast.unparse(s.value) for s in body if isinstance(s, ast.Assign)]
        assert sum("getLogger(" in value for value in values) <= 1, path
