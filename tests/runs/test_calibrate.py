"""Expected time: what the trial's figures add up to, and that a trial leaves nothing behind."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddgm_dist.cli.entry import main
from ddgm_dist.planning.runtime_estimate import EFFICIENCY, RuntimeEstimate
from ddgm_dist.runs.plan import plan
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

KEYS: dict[str, Any] = {"N": 4, "mean": 0, "std": 1, "sigma_y": 1, "denoiser": "idle:idle"}
PHASES = {"read", "gradient", "noise", "denoise", "exchange", "write"}


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("calibrate")
    (folder / "idle.py").write_text(
        "def idle(x, sigma):\n    return x\n\n\n"
        "def rest(images, noise, acquisition):\n    return images[:, 1]\n\n\n"
        "rest.neighbours = 1\n"
    )
    angles = tuple(range(-50, 51, 20))
    data = np.random.default_rng(0).standard_normal((len(angles), 10, 200), np.float32)
    write_tilt_series(folder / "tilts.zarr", data, TiltSeriesMeta(angles, thickness_px=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "tilts.zarr"


def test_more_workers_take_less_time_and_the_same_work() -> None:
    one = RuntimeEstimate({"denoise": 90.0, "read": 10.0}, 1.0, 2.0, workers=1, threads=2, units=10)
    assert one.total == 100
    assert one.wall == 103
    two = replace(one, workers=2, threads=1)
    assert two.total == one.total
    assert two.wall == pytest.approx(3 + 50 / EFFICIENCY)
    three = replace(one, workers=3)  # ten tiles take four rounds
    assert three.wall == pytest.approx(3 + 40 / EFFICIENCY)
    assert replace(one, workers=20).wall == replace(one, workers=10).wall


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"tile_columns": 80, "margin": 32},
        {"tile_columns": 80, "margin": 32, "state": "store"},
        {"planes": "zx,zy,yx", "window_rows": 16, "overlap_rows": 4, "tile_rows": 4},
        {"start": "restored", "restorer": "idle:rest"},
    ],
    ids=["uncoupled", "memory", "store", "planes", "restored"],
)
def test_every_phase_of_any_plan_is_tried(tilts: Path, keys: dict[str, Any]) -> None:
    threads, before = torch.get_num_threads(), sorted(tilts.parent.iterdir())
    found = plan(tilts, {**KEYS, **keys}, calibrate=True)
    assert found.expected is not None
    seconds = found.expected.seconds
    assert set(seconds) == PHASES | ({"restore"} if "start" in keys else set())
    coupled = found.order == "step-major"
    assert all(value > 0 for phase, value in seconds.items() if coupled or phase != "exchange")
    assert (seconds["exchange"] > 0) == coupled
    assert "expected time" in found.describe()
    assert torch.get_num_threads() == threads
    assert sorted(tilts.parent.iterdir()) == before
    assert plan(tilts, {**KEYS, **keys}).expected is None


def test_machines_get_json(
    tilts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The heap of the tests' own process stays as it is.
    monkeypatch.setattr("ddgm_dist.tile.host.allocate_as_workers", lambda: None)
    words = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
    assert main(["plan", str(tilts), *words, "--json", "--calibrate", "--workers", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shape"] == [12, 10, 200]
    assert found["memory"]["worker"] > found["memory"]["parts"]["libraries"]
    assert found["expected"]["workers"] == 2
    assert set(found["expected"]["worker_seconds"]) == PHASES
