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

# Functions that share their name with the module they are defined in.
NAMESAKES = ("evaluate", "ingest", "reconstruct", "ring_correlation", "simulate", "tune")


def run_python(code: str) -> str:
    """What ``code`` prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
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


@pytest.mark.parametrize("name", sorted(set(ddgm_dist.__all__) - {"__version__"}))
def test_every_public_name_is_there(name: str) -> None:
    module, attribute = ddgm_dist._HOMES[name]
    assert getattr(ddgm_dist, name) is getattr(importlib.import_module(module), attribute)
    assert name in dir(ddgm_dist)


@pytest.mark.parametrize("first", ["package", "module"])
def test_a_function_hides_the_module_of_its_name_whatever_was_imported_first(first: str) -> None:
    lines = ["import importlib, sys, ddgm_dist as dd"]
    for name in NAMESAKES:
        use, load = f"dd.{name}", f"importlib.import_module('ddgm_dist.{name}')"
        lines += [use, load] if first == "package" else [load, use]
        lines.append(f"assert dd.{name} is sys.modules['ddgm_dist.{name}'].{name}, '{name}'")
        lines.append(f"from ddgm_dist.{name} import {name}; assert {name} is dd.{name}")
    run_python("\n".join(lines))


def test_subpackages_are_not_hidden() -> None:
    importlib.import_module("ddgm_dist.planning")
    assert ddgm_dist.planning is sys.modules["ddgm_dist.planning"]


def test_public_names_can_be_replaced_by_anything_but_a_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ddgm_dist, "Box", "replaced")
    assert ddgm_dist.Box == "replaced"


def test_the_architecture_names_every_module(pytestconfig: pytest.Config) -> None:
    text = (pytestconfig.rootpath / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [p.stem for p in Path(ddgm_dist.__file__).parent.rglob("*.py") if p.stem[0] != "_"]
    assert len(modules) > 50
    assert [m for m in modules if not re.search(rf"\b{m}\b", text)] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'recontsruct'"):
        _ = ddgm_dist.recontsruct


def test_the_version_is_a_version() -> None:
    assert isinstance(ddgm_dist.__version__, str)
    assert ddgm_dist.__version__[0].isdigit()


def test_no_module_has_two_names_for_its_logger() -> None:
    for path in Path(ddgm_dist.__file__).parent.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        values = [ast.unparse(s.value) for s in body if isinstance(s, ast.Assign)]
        assert sum("getLogger(" in value for value in values) <= 1, path
