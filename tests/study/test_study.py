"""Laws of the study: what it runs is what users run, and what it searches on it does not score."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import cells
import choice
import curve
import method
import methods
import numpy as np
import pytest
import results
import search
import simulated
import slabs
import table
import torch
import verdict

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.prior.denoisers import FunctionDenoiser
from ddgm_dist.prior.restorers import FunctionRestorer
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.tile.measured import TileData
from ddgm_dist.tile.start import Start
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import open_tilt_series

CELL = cells.Cell(0.05, (0, 1), "toy", thickness=16, tilts=13, max_tilt=45.0, field=48)
N = 3
WARM = methods.warm_name("DPIR", 15)


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study") / "tilts.zarr"


def smooth(rows: int) -> np.ndarray:
    """Smooth grey levels, float32 ``(z, rows, x)``."""
    volume = np.random.default_rng(0).normal(100, 20, (16, rows, 96))
    moved = (np.roll(volume, (i, j), (0, 2)) for i, j in product(range(3), repeat=2))
    return (sum(moved) / 9).astype(np.float32)


@pytest.fixture(scope="module")
def posed(tilts: Path) -> slabs.Slab:
    volume = smooth(10)
    return slabs.pose(CELL, volume[:, :2], tilts, volume[:, 2:])


def middle(images, noise, acquisition, estimates):
    """The middle row's inverse; then halfway to its data step."""
    first = images[:, images.shape[1] // 2]
    return 0.9 * first if estimates is None else estimates.mean(1)


middle.neighbours, middle.repeats = 2, True


@pytest.fixture
def slab(posed: slabs.Slab) -> slabs.Slab:
    """With networks that cost nothing: the denoiser is the best one for white images."""
    wiener = FunctionDenoiser(lambda x, sigma: x / (1 + sigma**2), "wiener")
    return replace(
        posed,
        denoiser=wiener,
        restorer=FunctionRestorer(middle, "middle"),
        calls=slabs.Calls(),
        starts={},
    )


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_takes_its_calls_and_depends_on_its_seed_alone(slab, name: str) -> None:
    own = methods.METHODS[name]
    x = own.run(slab, {**own.first, "N": N}, 5)
    assert x.shape == slab.box.shape
    assert bool(torch.isfinite(x).all())
    assert slab.calls.forward == (N if own.denoises else 0)
    assert slab.calls.backward == (N if name == "DPS" else 0)
    told = [int(word) for word in name.split() if word.isdigit()]
    of_restorer = told[0] if told and not own.denoises else 1
    assert slab.calls.restorer == (of_restorer if own.restores else 0)
    assert torch.equal(x, own.run(slab, {**own.first, "N": N}, 5))
    assert (own.N or 0) + own.restores <= 50


def test_keys_and_labels_of_older_cells_are_what_they_were() -> None:
    older = {
        cells.Cell(0.05, (20, 165, 330, 490)): "medulla_64thick_61x60_noise5_84ea502a",
        cells.Cell(1.0, (196_360,), **cells.GEOMETRIES["128, 41 tilts"]): (
            "thick_128thick_41x60_noise100_c25bc10a"
        ),
        cells.Cell(0.3, (110,), poisson=True): "medulla_64thick_61x60_poisson30_31e4fc92",
    }
    for cell, key in older.items():
        assert cell.key == key
    keys = {replace(cell, shifts=1.0).key for cell in older} | {cell.key for cell in older}
    assert len(keys) == 2 * len(older)


def test_every_cell_has_results_of_its_own() -> None:
    found = cells.cells(cells.GEOMETRIES, cells.NOISES, cells.SCORE_ROWS)
    assert len({cell.label for cell in found}) == len(found) == 39


def test_a_field_leaves_columns_whose_rays_are_all_measured() -> None:
    for cell in cells.cells(cells.GEOMETRIES, (0.05,), cells.SCORE_ROWS):
        reach = np.ceil((cell.thickness - 1) / 2 * np.tan(np.deg2rad(cell.max_tilt)))
        assert cell.field - 2 * (reach + 1) >= 48


def test_the_restored_start_is_the_packages_on_contiguous_rows(posed, tmp_path: Path) -> None:
    store = tmp_path / "whole.zarr"
    angles = np.linspace(-45, 45, 13)
    dd.simulate(smooth(5), store, noise="gaussian:0.05", field=48, angles=angles)
    built = build_problem(store, ProblemConfig(start="restored", restorer_calls=2, rows_per_call=1))
    problem = built.problem
    operator = SlabOperator(problem.geometry)

    def read(start: int, stop: int) -> SlabData:
        rows = read_rows(
            built.series, problem.geometry, problem.intensity, start, stop, screen=problem.screen
        )
        return operator.prepare(*rows)

    first, last = problem.geometry.domain
    box = Box((0, 2, first), (16, 3, last))
    start = Start(problem, posed.restorer, torch.device("cpu"))
    sides = {2: (read(0, 2), read(3, 5))}
    expected = start(Tile("y2", box, box, 0), TileData(operator, {2: read(2, 3)}), sides)
    beside = read(0, 2), read(3, 5)
    others = SlabData(
        torch.cat([data.stretched for data in beside], 1),
        torch.cat([slabs.full_mask(data) for data in beside], 1),
    )
    own = replace(
        posed,
        cell=replace(CELL, rows=(2,)),
        operator=operator,
        problem=problem,
        data=read(2, 3),
        near=slabs.in_order(read(2, 3), others, 2),
        starts={},
    )
    assert torch.equal(own.restored(2), expected)


def test_each_row_lies_between_those_beside_it() -> None:
    own, others = (
        SlabData(torch.tensor(values, dtype=torch.float32)[None, :, None], torch.ones(1, 1, 1))
        for values in ([30, 70], [10, 20, 40, 50, 51, 60, 80, 90])
    )
    near = slabs.in_order(own, others, 2)
    assert near.stretched.flatten().tolist() == [10, 20, 30, 40, 50, 51, 60, 70, 80, 90]
    assert near.measured.shape == near.stretched.shape
    cell = cells.Cell(0.05, (20, 165))
    assert cells.beside(cell, 2).rows == (18, 19, 21, 22, 163, 164, 166, 167)


def test_the_rows_beside_have_noise_of_their_own_and_leave_the_series_as_it_is(
    posed, tilts: Path, tmp_path: Path
) -> None:
    volume = smooth(10)
    alone = slabs.pose(CELL, volume[:, :2], tmp_path / "tilts.zarr")
    assert alone.near is None
    assert torch.equal(alone.data.stretched, posed.data.stretched)
    assert alone.problem.data_digest == posed.problem.data_digest
    assert torch.equal(slabs.cut(posed.near, 7, 8).stretched, posed.data.stretched[:, 1:2])
    simulated.simulate(volume[:, :2], CELL, tmp_path / "again.zarr", simulated.SEED_BESIDE)
    clean = tmp_path / "clean.zarr"
    dd.simulate(volume[:, :2], clean, field=48, angles=np.linspace(-45, 45, 13))
    recorded, again, without = (
        open_tilt_series(store).read(slice(0, 2))
        for store in (tilts, tmp_path / "again.zarr", clean)
    )
    ours, theirs = (recorded - without).ravel(), (again - without).ravel()
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.1
    assert theirs.std() == pytest.approx(ours.std(), rel=0.1)


def test_views_of_a_misaligned_series_are_moved_and_nobody_is_told(posed, tmp_path: Path) -> None:
    cell = replace(CELL, shifts=1.0, discrepancy=True)
    moves = simulated.misalignment(cell)
    angles = np.deg2rad(np.linspace(-45, 45, 13))
    assert np.sqrt(np.mean(moves**2)) == pytest.approx(1)
    assert moves @ np.cos(angles) == pytest.approx(0, abs=1e-9)
    assert moves @ np.sin(angles) == pytest.approx(0, abs=1e-9)
    moved = slabs.pose(cell, smooth(10)[:, :2], tmp_path / "tilts.zarr")
    assert moved.problem.geometry.shifts_px is None or not any(
        map(any, moved.problem.geometry.shifts_px)
    )
    assert not torch.equal(moved.data.stretched, posed.data.stretched)
    assert moved.problem.intensity.misfit > 0
    assert moved.sigma_y == moved.problem.intensity.uncertainty / moved.problem.intensity.std
    assert posed.problem.intensity.misfit == 0


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_search_begins_within_its_space(name: str) -> None:
    own = methods.METHODS[name]
    assert own.first.keys() == own.space.keys()
    for setting, value in own.first.items():
        space = own.space[setting]
        if not isinstance(space, method.Choice):
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
    medulla = cells.SEARCH_ROWS["medulla"] + tissues["64 thick"]["rows"]
    for a, b in product(cells.SCORE_ROWS["medulla"], medulla):
        assert abs(a - b) >= 40
    # Of thick and deep slabs, planes of z; a row is 1000 y + z.
    planes = cells.SEARCH_ROWS["thick"] + cells.SEARCH_ROWS["deep"] + tissues["128 thick"]["rows"]
    for a, b in product(cells.SCORE_ROWS["thick"] + cells.SCORE_ROWS["deep"], planes):
        assert abs(a % 1000 - b % 1000) >= 40
    # Of the cube, slabs of 64 planes; a row is 250 z + y.
    slabs_of_cube = cells.SEARCH_ROWS["cube"] + tissues["vacuum beyond"]["rows"]
    for a, b in product(cells.SCORE_ROWS["cube"], slabs_of_cube):
        assert abs(a // 250 - b // 250) >= 64 + 40


def test_a_proposal_is_a_function_of_the_trials_before_it() -> None:
    own = methods.METHODS["DPIR, exact step"]
    assert search.propose(own, []) == own.first
    trials: list[dict] = []
    for number in range(7):
        settings = search.propose(own, trials)
        assert settings == search.propose(own, trials)
        for name, value in settings.items():
            space = own.space[name]
            assert space.low <= value <= space.high
            assert isinstance(value, int) or not isinstance(space, method.Whole)
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
    own = methods.METHODS["DPIR"]
    first = {"settings": own.first, "nmse": 0.2}
    assert search.propose(own, [first], good) == good
    tried = [first, {"settings": good, "nmse": 0.3}]
    assert search.propose(own, tried, good) != good
    deep = cells.Cell(0.3, (1,), **cells.DEEP)
    assert (deep.reference.label, deep.reference.reference) == (
        cells.Cell(0.3, (), **cells.THICK).label,
        deep.reference,
    )
    assert cells.Cell(0.3, (1,), **cells.CUBE).reference.label == cells.Cell(0.3, ()).label


def test_a_search_goes_on_where_it_was(slab, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search, "RESULTS", tmp_path)

    def searched(rounds: list[int]) -> dict:
        record = search.Record(CELL, N, slab.prior, slab.restored_by)
        for number in rounds:
            for name in ("WBP", "CGLS", "DPIR", "restorer alone", WARM):
                search.advance(record, slab, name, number, N)
        return {
            name: [(t["settings"], t["nmse"]) for t in trials]
            for name, trials in search.Record(CELL, N, slab.prior, slab.restored_by).trials.items()
        }

    searched([0, 1])
    other = search.Record(CELL, N, "another")
    assert not other.of("DPIR"), "what another denoiser was tried with says nothing of this one"
    assert other.of("WBP")
    trained_again = search.Record(CELL, N, slab.prior, "another")
    assert trained_again.of("DPIR")
    assert not trained_again.of(WARM)
    resumed = searched([0, 1, 2])
    for file in tmp_path.iterdir():
        file.unlink()
    assert resumed == searched([0, 1, 2])
    assert len(resumed["DPIR"]) == 3
    assert len(resumed["WBP"]) == 3
    assert len(resumed[WARM]) == 3
    assert "restorer alone" not in resumed, "it has no setting"
    least = min(resumed["DPIR"], key=lambda trial: trial[1])
    assert search.Record(CELL, N, slab.prior).best("DPIR") == least[0]


def test_a_line_of_the_table_counts_what_it_took(slab, tmp_path: Path) -> None:
    row = table.Row("DDGM, mean of 2", "DDGM", N, methods.DDGM_DEFAULT, samples=2)
    line = table.score_row(slab, row, methods.DDGM_DEFAULT, tmp_path / "x.npy")
    assert line["denoiser_calls"] == 2 * N
    assert line["backward_calls"] == 0
    assert line["nmse"] == pytest.approx(line["mse"] / slab.truth[..., 8:40].var(), rel=1e-3)
    assert np.load(tmp_path / "x.npy").shape == slab.truth.shape
    assert line["restorer_calls"] == 0
    settings = {**methods.RESTORED, "restorer_calls": 2}
    row = table.Row("ours, best", "ours, best", N, settings, samples=2)
    line = table.score_row(slab, row, settings, tmp_path / "x.npy")
    assert line["denoiser_calls"] == 2 * N
    assert line["restorer_calls"] == 2, "samples share their start"
    assert line["restorer"] == slab.restored_by
    wanted = {"settings": settings, "rows": list(CELL.rows), "restorer": slab.restored_by}
    assert table.is_done(line, row, wanted)
    assert not table.is_done(line, replace(row, N=N + 1), wanted)
    assert not table.is_done(line, replace(row, samples=1, N=2 * N), wanted)
    assert not table.is_done(line, row, {**wanted, "restorer": "another"})


def test_the_mean_ring_correlation_is_of_low_frequencies() -> None:
    rings = {"frequency": [0.1, 0.2, 0.3], "measured": [0.5, 0.7, 9.0], "missing": [None, 0.2, 9.0]}
    assert table.ring_mean({"rings": rings}, "measured") == pytest.approx(0.6)
    assert table.ring_mean({"rings": rings}, "missing") == pytest.approx(0.2)


def test_a_table_is_resumed_and_takes_what_has_no_trial_later(
    slab, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "make_slab", lambda cell, work: slab)
    monkeypatch.setitem(cells.SEARCH_ROWS, "toy", (5,))
    lines = [row for row in methods.rows(N) if row.name in ("restorer, 2 calls", "PnP-PGD")]

    def measured(**options: bool) -> dict[str, dict]:
        table.measure(CELL, lines, N, tmp_path, tmp_path, **options)
        return {line["method"]: line for line in table.load(tmp_path, CELL)}

    once = measured()
    assert once.keys() == {"restorer, 2 calls"}
    searched = replace(CELL, rows=(5,))
    record = search.Record(searched, N, slab.prior, slab.restored_by)
    first = methods.METHODS["PnP-PGD"].first
    record.add("PnP-PGD", [{"settings": first, "nmse": 0.5}])
    calls = slab.calls.restorer
    both = measured()
    assert list(both) == ["PnP-PGD", "restorer, 2 calls"], "in the order of the table"
    assert both["restorer, 2 calls"] == once["restorer, 2 calls"]
    assert slab.calls.restorer == calls, "what is measured is kept"


def test_each_point_of_the_curve_takes_the_calls_it_is_drawn_at(
    slab, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(search, "RESULTS", tmp_path)
    monkeypatch.setattr(curve, "CALLS", (1, 3, 24, 40))
    record = search.Record(CELL, N, slab.prior, slab.restored_by)
    for name in ("PnP-PGD", *(methods.warm_name("PnP-PGD", n) for n in methods.WARM_N)):
        record.add(name, [{"settings": methods.METHODS[name].first, "nmse": 0.5}])
    names = ("PnP-PGD", "PnP-PGD, restored start", curve.ALONE, curve.OURS_CURVE)
    found = [point for name in names for point in curve.points(name, record)]
    lines = [curve.run(slab, point) for point in found]
    drawn = {name: [r["calls"] for r in lines if r["method"] == name] for name in names}
    assert drawn == {
        names[0]: [1, 3, 24, 40],
        names[1]: [3, 24, 40],
        names[2]: [1, 3],
        names[3]: [1, 3, 24, 40],
    }
    warm = [point.method for point in found if point.name == names[1]]
    assert warm == [methods.warm_name("PnP-PGD", n) for n in (15, 15, 49)]
    assert [p.settings for p in curve.points("DPIR", record)] == [None] * 4, "not searched"


def test_a_rival_is_any_other_method_of_one_sample_and_at_most_50_calls() -> None:
    def line(name: str, mse: float, ssim: float, calls: int = 0, restorer: int = 0) -> dict:
        samples = 8 if "mean" in name else 1
        own = {"method": name, "mse": mse, "nmse": mse / 1000, "ssim": ssim, "samples": samples}
        return own | {"denoiser_calls": calls, "restorer_calls": restorer}

    ours = line("ours, default", 90.0, 0.75, 12, 1)
    weak = [
        line("TV", 160.0, 0.70),
        line("DPIR", 104.0, 0.74, 50),
        line("DPIR, restored start, 50 calls", 95.0, 0.745, 49, 1),
        line("DDGM, mean of 8", 80.0, 0.80, 400),
        line("DDGM (defaults), N = 150", 80.0, 0.80, 150),
        line("DDGM, restored start, 16 calls", 80.0, 0.80, 15, 1),
    ]
    lines = {r["method"]: r for r in [ours, *weak]}
    assert verdict.better(lines) == []
    assert verdict.judged(lines) == "ahead of 3"
    assert verdict.family(lines, "DPIR")["mse"] == 95.0
    assert verdict.least(verdict.classical(lines))["method"] == "TV"
    for mse, ssim in ((89.0, 0.70), (99.0, 0.76), (90.0, 0.70)):
        lines["restorer alone"] = line("restorer alone", mse, ssim, 0, 1)
        assert [r["method"] for r in verdict.better(lines)] == ["restorer alone"]
    assert verdict.better({"TV": weak[0]}) is None


def test_the_mean_over_cells_is_geometric_and_of_those_measured(capsys) -> None:
    def cell(ours: float, today: float) -> dict[str, dict]:
        own = {"nmse": 0.1, "samples": 1, "denoiser_calls": 12}
        lines = {"ours, default": (ours, 0.8), "DDGM (defaults)": (today, 0.7)}
        return {
            name: {**own, "method": name, "mse": mse, "ssim": ssim}
            for name, (mse, ssim) in lines.items()
        }

    found = {("64", 0.05): cell(50.0, 100.0), ("64", 1.0): cell(200.0, 100.0), ("128", 0.05): {}}
    values = verdict.ratios(found, "default", lambda lines: lines.get("DDGM (defaults)"))
    assert values == {("64", 0.05): 0.5, ("64", 1.0): 2.0}
    assert verdict.mean(values) == pytest.approx(1)
    verdict.goals(found)
    verdict.summarise(found)
    out = capsys.readouterr().out
    assert "1 of 2 cells (3 in all)" in out
    assert "| ours, default | DDGM (defaults) | **1.000** | 0.85 | 64 at 100%, 2.000 | 2 |" in out


def test_processes_add_to_one_file_without_loss(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.json"
    assert results.load(file, []) == []
    for number in range(3):
        results.change(file, [], lambda now, number=number: [*now, number])
    assert results.load(file, []) == [0, 1, 2]
    assert [p.name for p in file.parent.iterdir()] == ["a.json"]
