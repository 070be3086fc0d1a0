"""Each command locates each of its paths once, and hands the places down."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ddgm_dist as dd
from ddgm_dist.evaluation.pyramid import build_pyramid
from ddgm_dist.inspection.timeline import draw_timeline
from ddgm_dist.inspection.verify import verify
from ddgm_dist.paths import locate as module
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.tilts.series import TiltSeriesMeta, open_tilt_series, write_tilt_series
from tests.small_runs import ANGLES

KEYS = {"thickness": 12, "N": 2, "K": 2, "denoiser": "smoother:smooth", "window": 64, "overlap": 16}


@pytest.fixture
def located(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each path was located."""
    found = Counter[str]()
    parse = module._parse

    def counted(path: str | Path, argument: str) -> module.Place:
        place = parse(path, argument)
        found[place.name] += 1
        return place

    monkeypatch.setattr(module, "_parse", counted)
    return found


@pytest.fixture
def series(tilts: Path, denoisers: Path) -> Path:
    return tilts


@pytest.fixture
def out(tmp_path: Path, series: Path) -> Iterator[Path]:
    dd.reconstruct(series, tmp_path / "out.zarr", KEYS, "local")
    return tmp_path / "out.zarr"


def test_a_run(series: Path, tmp_path: Path, located: Counter[str]) -> None:
    out = tmp_path / "out.zarr"
    for again in range(2):
        dd.reconstruct(series, out, KEYS, "local", overwrite=again > 0)
        assert located == {"tilts.zarr": 1, "out.zarr": 1}
        located.clear()


def test_a_run_of_several_samples(series: Path, tmp_path: Path, located: Counter[str]) -> None:
    dd.reconstruct(series, tmp_path / "out.zarr", KEYS | {"samples": 2}, "local")
    assert located == {"tilts.zarr": 1, "out.zarr": 1}


def test_plan_and_tune(series: Path, tmp_path: Path, located: Counter[str]) -> None:
    dd.plan(series, KEYS)
    assert located == {"tilts.zarr": 1}
    located.clear()
    file = tmp_path / "tuned.yaml"
    dd.tune(series, KEYS, grid={"K": [3]}, blocks=1, rows=4, out=file)
    assert located == {"tilts.zarr": 1, "tuned.yaml": 1}


def test_ingest(tmp_path: Path, located: Counter[str]) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(9, 1, (len(ANGLES), 8, 40)))
    (tmp_path / "a.tlt").write_text("\n".join(map(str, ANGLES)))
    dd.ingest(tmp_path / "a.npy", tmp_path / "t.zarr", angles=tmp_path / "a.tlt")
    assert located == {"a.npy": 1, "a.tlt": 1, "t.zarr": 1}


def test_simulate_and_write(tmp_path: Path, located: Counter[str]) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(9, 1, (8, 4, 40)))
    dd.simulate(tmp_path / "v.npy", tmp_path / "t.zarr", angles=ANGLES)
    assert located == {"v.npy": 1, "t.zarr": 1}
    located.clear()
    data = np.zeros((len(ANGLES), 4, 40), np.float32)
    write_tilt_series(tmp_path / "w.zarr", data, TiltSeriesMeta(ANGLES))
    assert located == {"w.zarr": 1}


def test_evaluate(out: Path, tmp_path: Path, located: Counter[str]) -> None:
    shape = dd.open_result(out).shape
    located.clear()
    np.save(tmp_path / "truth.npy", np.random.default_rng(0).normal(9, 1, shape))
    dd.evaluate(out, tmp_path / "truth.npy", scheduler="sync", inner="all")
    assert located == {"out.zarr": 1, "truth.npy": 1}


LOOKS: dict[str, Callable[[Path], object]] = {
    "status": dd.status,
    "verify": verify,
    "open_result": dd.open_result,
    "open_volume": open_volume,
    "build_pyramid": lambda out: build_pyramid(out, levels=1, scheduler="sync"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_looks_at_a_result(name: str, out: Path, located: Counter[str]) -> None:
    located.clear()
    LOOKS[name](out)
    assert located == {"out.zarr": 1}


def test_what_opens_a_series(series: Path, located: Counter[str]) -> None:
    open_tilt_series(series)
    assert located == {"tilts.zarr": 1}


def test_a_timeline(out: Path, tmp_path: Path, located: Counter[str]) -> None:
    located.clear()
    draw_timeline(out, tmp_path / "t.png")
    assert located == {"out.zarr": 1, "t.png": 1}
