"""Tuning: it finds what the truth would, says so the same way twice, and leaves nothing half-done."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddgm_dist.cli import main
from ddgm_dist.errors import InputError
from ddgm_dist.evaluation.evaluate import evaluate
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.simulation.simulate import simulate
from ddgm_dist.tuning.result import Tuning
from ddgm_dist.tuning.tune import tune

BASE = {"N": 5, "K": 25, "data_weight_cap": 0.02, "denoiser": "tune_wiener:wiener"}
GRID = {"data_weight_cap": [0.02, 2.0, 200.0], "added_noise": [0.3, 3.0]}
SIZE: dict[str, Any] = {"blocks": 3, "rows": 2, "folds": 4}
# The denoiser that is exact for the Gaussian texture of the specimen below.
WIENER = """
import torch

def wiener(x, sigma):
    kz, kx = torch.fft.fftfreq(x.shape[1])[:, None], torch.fft.rfftfreq(x.shape[2])
    width = 1.5
    S = torch.exp(-4 * (torch.pi * width) ** 2 * (kz**2 + kx**2)) * 4 * torch.pi * width**2
    return torch.fft.irfft2(torch.fft.rfft2(x) * S / (S + sigma**2), s=x.shape[1:])

def restore(images, noise, acquisition):
    return wiener(images.mean(1), 0.5)
"""


@pytest.fixture(autouse=True, scope="module")
def _wiener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("denoiser")
    (folder / "tune_wiener.py").write_text(WIENER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("tune_wiener")
        yield
    del sys.modules["tune_wiener"]


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    draw = np.random.default_rng(0).standard_normal((24, 6, 288))
    texture = gaussian_filter(draw, (1.5, 0, 1.5), mode="wrap")
    return (100 + 20 * texture / texture.std()).astype(np.float32)


@pytest.fixture(scope="module")
def tilts(volume: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tune") / "tilts.zarr"
    angles = tuple(float(a) for a in range(-60, 61, 5))
    simulate(volume, path, angles=angles, noise="gaussian:0.3", field=120)
    return path


@pytest.fixture(scope="module")
def found(tilts: Path) -> Tuning:
    return tune(tilts, BASE, grid=GRID, **SIZE)


def test_the_choice_is_as_good_as_the_one_that_knows_the_truth(
    found: Tuning, tilts: Path, volume: np.ndarray, tmp_path: Path
) -> None:
    truth = {}
    for row in found.rows:
        reconstruct(tilts, tmp_path / "o.zarr", BASE | dict(row.settings), "local", overwrite=True)
        truth[row.name] = evaluate(tmp_path / "o.zarr", volume).nmse
    assert truth[found.chosen.name] <= 1.05 * min(truth.values())
    assert max(truth.values()) > 1.3 * min(truth.values())  # there was something to choose
    final = [row for row in found.rows if row.blocks == SIZE["blocks"]]
    best = min(final, key=lambda row: row.error)
    assert truth[best.name] <= 1.05 * min(truth.values())


def test_the_table_is_complete(found: Tuning) -> None:
    assert len(found.rows) == 6
    assert sum(row.chosen for row in found.rows) == 1
    assert [row.blocks for row in found.rows] == sorted(
        (r.blocks for r in found.rows), reverse=True
    )
    assert all((row.resolution is not None) == (row.blocks == 3) for row in found.rows)
    assert all(row.deviation is not None for row in found.rows)
    assert all(
        r.error == pytest.approx(found.share * r.between + (1 - found.share) * r.beyond)
        for r in found.rows
    )
    shown = found.describe()
    assert all(row.name in shown for row in found.rows)
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_seed_fixes_the_answer(found: Tuning, tilts: Path) -> None:
    again = tune(tilts, BASE, grid=GRID, **SIZE)
    assert again.rows == found.rows
    other = tune(tilts, BASE, grid=GRID, seed=1, **SIZE)
    assert other.rows != found.rows


def test_reconstruct_takes_what_was_written(tilts: Path, tmp_path: Path, capsys: Any) -> None:
    out, grid = tmp_path / "c.yaml", tmp_path / "grid.yaml"
    grid.write_text("- {K: [5, 25]}\n- {sigma_N: [0.2]}\n")
    words = ["--set", "N=2", "--set", "denoiser=tune_wiener:wiener", "--blocks", "1", "--rows", "1"]
    words += ["--grid", str(grid), "--out", str(out), "-q"]
    assert main(["tune", str(tilts), *words]) == 0
    shown, cost = capsys.readouterr()
    assert "3 candidates" in cost
    assert "denoiser calls" in cost
    assert shown.count("*") == 1
    assert f"written: {out}" in shown
    result = tmp_path / "o.zarr"
    words = ["--config", str(out), "--engine", "local", "-q"]
    assert main(["reconstruct", str(tilts), str(result), *words]) == 0
    assert main(["tune", str(tilts), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_interruption_leaves_nothing(
    tilts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        importlib.import_module("ddgm_dist.tuning.trials"), "BlockSolver", interrupt
    )
    out = tmp_path / "c.yaml"
    words = ["--set", "denoiser=tune_wiener:wiener", "--out", str(out), "-q"]
    assert main(["tune", str(tilts), *words]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_budget_picks_how_many(tilts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = importlib.import_module("ddgm_dist.tuning.trials").Trials
    monkeypatch.setattr(trials, "seconds_per_call", lambda self, config: 1.0)
    small: dict[str, Any] = {"grid": {"K": list(range(1, 30))}, "blocks": 1, "rows": 1}
    config = {**BASE, "N": 1}
    said: list[str] = []
    found = tune(tilts, config, budget=0.2, report=said.append, **small)
    # One call for each candidate, and two for each in the last (and only) round.
    assert len(found.rows) == 4
    assert found.calls == 12
    assert said[0].startswith("4 candidates")
    assert "about 12 denoiser calls, 12 s" in said[0]
    with pytest.raises(InputError, match=r"budget = 0.05.*two candidates"):
        tune(tilts, config, budget=0.05, **small)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"blocks": 0}, "blocks"),
        ({"rows": 0}, "rows"),
        ({"folds": 1}, "folds"),
        ({"folds": 13}, "folds"),
        ({"seed": -1}, "seed"),
        ({"budget": 0.0}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"grid": {}}, "grid"),
        ({"grid": {"nonsense": [1]}}, "nonsense"),
        ({"config": {"nonsense": 1}}, "nonsense"),
        ({"out": "/nowhere/at/all.yaml"}, "out"),
    ],
)
def test_bad_input_is_named(tilts: Path, words: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as caught:
        tune(tilts, **({"config": BASE, "grid": GRID} | words))
    assert caught.value.argument == named


def test_a_level_that_the_denoiser_does_not_know_is_left_out(tilts: Path) -> None:
    with pytest.raises(InputError, match=r"sigma_1=1000.*trained for"):
        tune(tilts, {"N": 2}, grid={"sigma_1": [1000.0]})
    with pytest.raises(InputError, match="sigma_1 = 1000"):
        tune(tilts, {"N": 2, "sigma_1": 1000.0}, grid={"sigma_1": [3.0]})
    said: list[str] = []
    grid = {"sigma_1": [3.0, 1000.0]}
    found = tune(tilts, {"N": 1}, grid=grid, blocks=1, rows=1, report=said.append)
    assert [row.name for row in found.rows if row.settings] == ["sigma_1=3"]
    assert said[0].startswith("left out sigma_1=1000: sigma_1 = 1000.0 lies outside")
    assert said[0] in found.describe()
    assert found.to_dict()["left_out"][0]["name"] == "sigma_1=1000"


def test_starts_are_compared_and_their_calls_counted(tilts: Path) -> None:
    base = {**BASE, "restorer": "tune_wiener:restore", "sigma_1": 0.4, "N": 2}
    grid = {"start": ["zero", "restored"], "N": [2, 5]}
    said: list[str] = []
    found = tune(tilts, base, grid=grid, blocks=1, rows=1, report=said.append)
    tried = {(r.settings.get("start", "zero"), r.calls, r.restorer_calls) for r in found.rows}
    assert tried == {("zero", 2, 0), ("zero", 5, 0), ("restored", 2, 1), ("restored", 5, 1)}
    # Each is solved once on the block, and the finalists (all four) on two halves.
    assert (found.calls, found.restorer_calls) == (3 * 14, 3 * 2)
    assert "about 42 denoiser calls and 6 of the restorer" in said[0]
    assert "at most 16 conjugate gradient steps" in said[0]
    assert found.to_dict()["restorer_calls"] == 6
    errors = {row.name: row.error for row in found.rows}
    assert errors["start=restored"] != errors["as given"]


def test_a_missing_restorer_leaves_its_candidates_out(tilts: Path) -> None:
    base = {**BASE, "restorer": "/nowhere/r.safetensors", "N": 1}
    grid = [{"K": [5]}, {"start": ["restored"]}]
    found = tune(tilts, base, grid=grid, blocks=1, rows=1)
    assert [row.name for row in found.rows if row.settings] == ["K=5"]
    assert "r.safetensors" in found.left_out[0].why


def test_a_budget_counts_the_starts(tilts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = importlib.import_module("ddgm_dist.tuning.trials").Trials
    monkeypatch.setattr(trials, "seconds_per_call", lambda self, config: 1.0)
    monkeypatch.setattr(trials, "seconds_per_start", lambda self, config: 100.0)
    base = {**BASE, "restorer": "tune_wiener:restore", "N": 1}
    grid = [{"start": ["restored"]}]
    with pytest.raises(InputError, match="two candidates, which take about 5 min 06 s"):
        tune(tilts, base, grid=grid, budget=5.0, blocks=1, rows=1)


@pytest.fixture(scope="module")
def vacuum(volume: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same specimen, which ends 8 columns beyond the field."""
    path = tmp_path_factory.mktemp("vacuum") / "tilts.zarr"
    angles = tuple(float(a) for a in range(-60, 61, 5))
    simulate(volume[..., 76:-76], path, angles=angles, noise="gaussian:0.1", field=120)
    return path


def test_it_warns_where_held_out_tilts_share_a_wrong_model(
    found: Tuning, vacuum: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert found.trusted
    assert found.doubts.ends is not None
    assert found.doubts.ends < 2
    assert "WARNING" not in found.describe()
    out = tmp_path / "c.yaml"
    misled = tune(vacuum, BASE, grid=GRID, out=out, **SIZE)
    assert not misled.trusted
    assert misled.doubts.ends is not None
    assert f"{misled.doubts.ends:.1f} times" in misled.describe()
    for told in (misled.describe(), out.read_text(), caplog.text):
        assert "do not trust this ranking" in told
    assert misled.to_dict()["model"]["trusted"] is False
    json.dumps(misled.to_dict(), allow_nan=False)


def test_fewer_than_8_tilts_are_refused(volume: np.ndarray, tmp_path: Path) -> None:
    simulate(volume[:, :1], tmp_path / "t.zarr", angles=(-40, -20, -10, 0, 10, 20, 40), field=120)
    with pytest.raises(InputError, match="at least 8"):
        tune(tmp_path / "t.zarr", BASE, grid=GRID)
