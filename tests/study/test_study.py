"""Laws of the study: what it runs is what users run, and what it searches on it does not score."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import choice
import methods
import numpy as np
import pytest
import search
import slabs
import table
import torch

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.prior.denoisers import FunctionDenoiser
from ddgm_dist.readers.volumes import open_volume

CELL = slabs.Cell(0.05, (0, 1), "toy", thickness=16, tilts=13, max_tilt=45.0, field=48)
N = 3


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study") / "tilts.zarr"


@pytest.fixture(scope="module")
def posed(tilts: Path) -> slabs.Slab:
    volume = np.random.default_rng(0).normal(100, 20, (16, 2, 96))
    smooth = sum(np.roll(volume, (i, j), (0, 2)) for i, j in product(range(3), repeat=2)) / 9
    return slabs.pose(CELL, smooth.astype(np.float32), tilts)


@pytest.fixture
def slab(posed: slabs.Slab) -> slabs.Slab:
    """With a denoiser that costs nothing: the best one for white images."""
    wiener = FunctionDenoiser(lambda x, sigma: x / (1 + sigma**2), "wiener")
    return replace(posed, denoiser=wiener, calls=slabs.Calls())


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_takes_its_denoiser_calls_and_depends_on_its_seed_alone(slab, name: str) -> None:
    method = methods.METHODS[name]
    x = method.run(slab, {**method.first, "N": N}, 5)
    assert x.shape == slab.box.shape
    assert bool(torch.isfinite(x).all())
    assert slab.calls.forward == (N if method.denoises else 0)
    assert slab.calls.backward == (N if name == "DPS" else 0)
    assert torch.equal(x, method.run(slab, {**method.first, "N": N}, 5))


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_search_begins_within_its_space(name: str) -> None:
    method = methods.METHODS[name]
    assert method.first.keys() == method.space.keys()
    for setting, value in method.first.items():
        space = method.space[setting]
        if isinstance(space, methods.Real):
            assert space.low <= value <= space.high


def test_ddgm_of_the_study_is_what_reconstruct_does(posed, tilts: Path, tmp_path: Path) -> None:
    x = methods.METHODS["DDGM"].run(posed, {**methods.DDGM_DEFAULT, "N": N}, 7)
    config = {
        **methods.DDGM_DEFAULT,
        "N": N,
        "seed": 7,
        "rows_per_call": 2,
        "sigma_y": posed.problem.intensity.sigma_y,
    }
    dd.reconstruct(tilts, tmp_path / "out.zarr", config, "local")
    stored = open_volume(tmp_path / "out.zarr").read(Box((0, 0, 0), posed.truth.shape))
    np.testing.assert_allclose(posed.restore(x), stored, rtol=1e-5)


def test_what_is_searched_on_is_not_scored() -> None:
    tissues = choice.TISSUES  # on which the defaults were chosen
    medulla = slabs.SEARCH_ROWS["medulla"] + tissues["64 thick"]["rows"]
    for a, b in product(slabs.SCORE_ROWS["medulla"], medulla):
        assert abs(a - b) >= 40
    # Of thick slabs, planes of z; a row is 1000 y + z.
    thick = slabs.SEARCH_ROWS["thick"] + tissues["128 thick"]["rows"]
    for a, b in product(slabs.SCORE_ROWS["thick"], thick):
        assert abs(a % 1000 - b % 1000) >= 40


def test_a_proposal_is_a_function_of_the_trials_before_it() -> None:
    method = methods.METHODS["DDRM"]
    assert search.propose(method, []) == method.first
    trials: list[dict] = []
    for number in range(7):
        settings = search.propose(method, trials)
        assert settings == search.propose(method, trials)
        for name, value in settings.items():
            space = method.space[name]
            assert space.low <= value <= space.high
        trials.append({"settings": settings, "nmse": 1.0 / (number + 1)})
    distinct = {tuple(trial["settings"].values()) for trial in trials}
    assert len(distinct) == 7


def test_what_did_best_in_the_reference_geometry_is_tried_elsewhere(
    slab, monkeypatch, tmp_path: Path
):
    monkeypatch.setattr(search, "RESULTS", tmp_path)
    reference = search.Record(replace(CELL, tilts=61, max_tilt=60.0), N, slab.prior)
    assert reference.borrowed("DPIR") is None
    here = search.Record(replace(CELL, tilts=41), N, slab.prior)
    assert here.borrowed("DPIR") is None, "not searched yet"
    good, bad = ({"sigma_1": s, "sigma_N": 0.1, "lam": 0.2} for s in (4.0, 9.0))
    reference.add("DPIR", [{"settings": bad, "nmse": 0.5}, {"settings": good, "nmse": 0.1}])
    assert here.borrowed("DPIR") == good
    method = methods.METHODS["DPIR"]
    first = {"settings": method.first, "nmse": 0.2}
    assert search.propose(method, [first], good) == good
    tried = [first, {"settings": good, "nmse": 0.3}]
    assert search.propose(method, tried, good) != good


def test_a_search_goes_on_where_it_was(slab, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search, "RESULTS", tmp_path)

    def searched(rounds: list[int]) -> dict:
        record = search.Record(CELL, N, slab.prior)
        for number in rounds:
            for name in ("WBP", "CGLS", "DPIR"):
                search.advance(record, slab, name, number, N)
        return {
            name: [(t["settings"], t["nmse"]) for t in trials]
            for name, trials in search.Record(CELL, N, slab.prior).trials.items()
        }

    searched([0, 1])
    other = search.Record(CELL, N, "another")
    assert not other.of("DPIR"), "what another denoiser was tried with says nothing of this one"
    assert other.of("WBP")
    resumed = searched([0, 1, 2])
    for file in tmp_path.iterdir():
        file.unlink()
    assert resumed == searched([0, 1, 2])
    assert len(resumed["DPIR"]) == 3
    assert len(resumed["WBP"]) == 3
    least = min(resumed["DPIR"], key=lambda trial: trial[1])
    assert search.Record(CELL, N, slab.prior).best("DPIR") == least[0]


def test_a_line_of_the_table_counts_what_it_took(slab, tmp_path: Path) -> None:
    row = table.Row("DDGM, mean of 2", "DDGM", N, methods.DDGM_DEFAULT, samples=2)
    line = table.score_row(slab, row, methods.DDGM_DEFAULT, tmp_path / "x.npy")
    assert line["denoiser_calls"] == 2 * N
    assert line["backward_calls"] == 0
    assert line["nmse"] == pytest.approx(line["mse"] / slab.truth[..., 8:40].var(), rel=1e-3)
    assert np.load(tmp_path / "x.npy").shape == slab.truth.shape


def test_the_mean_ring_correlation_is_of_low_frequencies() -> None:
    rings = {"frequency": [0.1, 0.2, 0.3], "measured": [0.5, 0.7, 9.0], "missing": [None, 0.2, 9.0]}
    assert table.ring_mean({"rings": rings}, "measured") == pytest.approx(0.6)
    assert table.ring_mean({"rings": rings}, "missing") == pytest.approx(0.2)
