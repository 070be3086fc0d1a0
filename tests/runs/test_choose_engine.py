"""The engine that a run takes if none is named, and that its bits do not depend on it."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import parse_config
from ddgm_dist.runs import choose_engine as choosing
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.reconstruct import reconstruct

KEYS = {"N": 2, "K": 4, "rows_per_call": 2, "denoiser": "smoother:smooth"}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, denoisers: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ddgm_dist.ray_engine.reachable.is_connected", lambda: False)


def chosen(tilts: Path, engine: str = "auto", **asked: Any) -> tuple[str, str]:
    config = parse_config(KEYS)
    built = build_problem(tilts, config.problem())
    found, why = choosing.choose_engine(
        engine, asked.get("address"), asked.get("workers"), None,
        problem=built.problem, series=built.series, config=config,
    )  # fmt: skip
    return found.name, why


def test_little_work_is_done_here_and_much_on_ray(
    tilts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, why = chosen(tilts)
    assert name == "local"
    assert why.startswith("about ")
    monkeypatch.setattr(choosing, "_WORTH_RAY", 0.0)
    name, why = chosen(tilts)
    assert name == "ray"
    assert why.startswith("more than ")


@pytest.mark.parametrize(
    ("asked", "word"),
    [({"workers": 2}, "workers asked for"), ({"address": "h:6379"}, "address asked for")],
)
def test_what_only_ray_has_is_enough(tilts: Path, asked: dict[str, Any], word: str) -> None:
    name, why = chosen(tilts, **asked)
    assert name == "ray"
    assert word in why


def test_a_cluster_of_the_environment_is_joined(
    tilts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "h:6379")
    assert chosen(tilts) == ("ray", "a running cluster asked for: ")


@pytest.mark.parametrize("engine", ["auto", "ray"])
def test_a_cluster_is_joined_before_the_input_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    def refuse(address: str | None) -> None:
        raise InputError("address", address, "another version")

    monkeypatch.setattr(choosing, "check_ray", lambda address: None)
    monkeypatch.setattr("ddgm_dist.ray_engine.cluster.connected", refuse)
    with pytest.raises(InputError, match="another version"):
        reconstruct(tmp_path / "none.zarr", tmp_path / "out.zarr", KEYS, engine, address="h:6379")


def test_an_engine_that_is_named_is_taken(tilts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(tilts, "ray") == ("ray", "")
    monkeypatch.setattr(choosing, "_WORTH_RAY", 0.0)
    assert chosen(tilts, "local") == ("local", "")


@pytest.mark.parametrize("engine", ["auto", "ray"])
def test_no_workers_are_refused(engine: str) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        choosing.check_engine(engine, None, 0)


def test_one_line_tells_where_it_is_computed(
    tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    reconstruct(tilts, tmp_path / "a.zarr", KEYS, progress=True)
    opening, first, *_ = capfd.readouterr().err.splitlines()
    assert opening == f"opening {tilts}"
    assert first.startswith("about ")
    assert first.endswith("computing 4 tiles in this process")
    with caplog.at_level(logging.INFO, "ddgm_dist"):
        reconstruct(tilts, tmp_path / "b.zarr", KEYS)
        reconstruct(tilts, tmp_path / "b.zarr", KEYS)  # nothing to do, nothing to say
    assert sum("in this process" in line for line in caplog.messages) == 1
    assert capfd.readouterr().err == ""


def test_a_series_that_is_missing_is_not_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"none\.zarr"):
        reconstruct(tmp_path / "none.zarr", tmp_path / "a.zarr", KEYS, progress=True)
    assert "opening" not in capfd.readouterr().err


class StartedError(Exception):
    """Ray was started."""


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(address: str | None) -> None:
        raise StartedError

    monkeypatch.setattr("ddgm_dist.ray_engine.engine.connected", start)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_ray_is_started_last(tilts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the input and the output have been checked, and only if there is something to do."""
    out = tmp_path / "out.zarr"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    for wrong in (
        {"tilts": tmp_path / "nowhere.zarr"},
        {"out": tmp_path / "taken"},
        {"config": {**KEYS, "thickness": -1}},
        {"config": {**KEYS, "step_size": 1e3}},
        {"memory": 2**20},
    ):
        with pytest.raises(InputError):
            reconstruct(**{"tilts": tilts, "out": out, "config": KEYS, "engine": "ray", **wrong})  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "ddgm_dist"), pytest.raises(StartedError):
        reconstruct(tilts, out, KEYS, "ray", workers=2)
    assert caplog.messages == ["starting Ray (2 workers)"]
    reconstruct(tilts, out, KEYS, "local")
    with pytest.raises(InputError, match="another problem"):
        reconstruct(tilts, out, {**KEYS, "N": 3}, "ray")
    assert reconstruct(tilts, out, KEYS, "ray").residuals == []


def test_a_wrong_command_imports_no_ray(tilts: Path, tmp_path: Path) -> None:
    """Its import takes seconds."""
    code = (
        "import sys; from ddgm_dist.cli import main\n"
        f"assert main(['reconstruct', {str(tilts)!r}, {str(tmp_path)!r}, '--engine', 'ray']) == 2\n"
        f"assert main(['reconstruct', 'nowhere.zarr', 'o.zarr', '--engine', 'ray']) == 2\n"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_the_bits_do_not_depend_on_it(
    tilts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = reconstruct(tilts, tmp_path / "here.zarr", KEYS, "auto")
    monkeypatch.setattr(choosing, "_WORTH_RAY", 0.0)
    there = reconstruct(tilts, tmp_path / "there.zarr", KEYS, "auto")
    np.testing.assert_array_equal(here.to_dask().compute(), there.to_dask().compute())


def test_an_engine_object_is_used_as_it_is(tilts: Path, tmp_path: Path) -> None:
    class Mine(LocalEngine):
        name = "mine"

    assert (
        choosing.choose_engine(
            Mine(),
            None,
            None,
            None,
            problem=None,
            series=None,
            config=None,  # type: ignore[arg-type]
        )[0].name
        == "mine"
    )
