"""A run says whether its volume explains the data, and says the same when it is run again."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.cli import main
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.inspection.status import status
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.fit import Fit
from ddgm_dist.records.receipts import RECEIPTS
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.plan import plan
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, Receipt, Report
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.provenance import Provenance, ViewRecord, degrees
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.small_runs import ANGLES, project, specimen

KEYS = {"N": 3, "K": 50, "rows_per_call": 2, "tile_rows": 4, "denoiser": "smoother:smooth"}
NOISE = 5.0  # of the series `tilts`


def run(tilts: Path, out: Path, engine: Any = None, **keys: Any) -> Result:
    return reconstruct(tilts, out, {**KEYS, "sigma_y": NOISE, **keys}, engine or LocalEngine())


def fit_of(result: Result) -> Fit:
    assert result.fit is not None
    return result.fit


class Dying(LocalEngine):
    """Fails after a number of tiles."""

    def __init__(self, tiles: int) -> None:
        self.left = tiles

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def listen(event: Event) -> None:
            report(event)
            self.left -= isinstance(event, Receipt)
            if self.left == 0:
                raise RuntimeError("planted")

        super().run(job, done, listen)


@pytest.fixture(scope="module")
def disordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series whose angles have another order than its views, of which four were left out."""
    data = project(specimen(12, 8, 180), 100, ANGLES)
    data += NOISE * np.random.default_rng(1).standard_normal(data.shape)
    wrong = tuple(np.random.default_rng(2).permutation(ANGLES).tolist())
    path = tmp_path_factory.mktemp("disordered") / "t.zarr"
    record = Provenance(views=[ViewRecord(t + 5, angle) for t, angle in enumerate(wrong)])
    record.say("counts of the beam", "900", "estimated: mean against 1/cos, within 3 %")
    write_tilt_series(path, data, TiltSeriesMeta(wrong, thickness_px=12, provenance=record))
    return path


def test_a_good_series_is_explained(
    tilts: Path, denoisers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(tilts, tmp_path / "v.zarr")
    found = fit_of(result)
    assert found.explained
    assert 0.5 < found.ratio < 2
    assert len(found.views) == len(ANGLES)
    assert found.residual == pytest.approx(found.ratio * NOISE)
    assert found.coverage == 1
    assert " ".join(found.text().split()) in " ".join(result.describe().split())
    assert not [r for r in caplog.records if "explained" in r.getMessage()]
    written = RunRecord(locate(tmp_path / "v.zarr", "out")).read_json("provenance")
    assert Fit.from_dict((written or {})["fit"]) == found
    seen = status(tmp_path / "v.zarr")
    assert seen.fit == found
    assert seen.to_dict()["fit"]["views"] == list(found.views)
    assert " ".join(found.text().split()) in " ".join(seen.describe().split())


def test_a_bad_series_is_warned_of_once(
    disordered: Path, denoisers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = fit_of(run(disordered, tmp_path / "v.zarr"))
    assert not found.explained
    (warning,) = (r.getMessage() for r in caplog.records if "explained" in r.getMessage())
    assert warning.endswith(found.warning() or "")
    assert warning.startswith(str(tmp_path / "v.zarr"))
    page = status(tmp_path / "v.zarr").describe()
    shown = page[page.index("\nfit") :].splitlines()
    assert all(len(line) <= 80 for line in shown)
    assert all(line.startswith(" " * 14) for line in shown[2:-1])
    assert " ".join(found.text().split()) in " ".join(page.split())
    worst = found.worst_indices[0]
    assert found.worst[0] == worst + 5  # as --exclude counts them
    assert f": {worst + 5} ({degrees(found.names.angles_deg[worst])})" in found.text()
    assert any(cause.startswith("the beam was estimated") for cause in found.causes[:2])
    seen = status(tmp_path / "v.zarr").fit
    assert seen == found
    looked = plan(disordered, {**KEYS, "sigma_y": NOISE}).expected_fit
    assert looked is not None
    assert (looked.names, looked.beam) == (found.names, "estimated")


@pytest.mark.parametrize("keys", [{}, {"samples": 2}], ids=["one", "samples"])
def test_resumed_and_run_again_it_is_the_same(
    tilts: Path, denoisers: Path, tmp_path: Path, keys: dict[str, Any]
) -> None:
    expected = fit_of(run(tilts, tmp_path / "whole.zarr", **keys))
    with pytest.raises(RuntimeError, match="planted"):
        run(tilts, tmp_path / "v.zarr", Dying(1), **keys)
    assert status(tmp_path / "v.zarr").fit is None
    assert fit_of(run(tilts, tmp_path / "v.zarr", **keys)) == expected
    again = run(tilts, tmp_path / "v.zarr", **keys)
    assert not again.residuals  # nothing was computed
    assert fit_of(again) == expected


def test_a_cut_does_not_change_it(tilts: Path, denoisers: Path, tmp_path: Path) -> None:
    fits = [fit_of(run(tilts, tmp_path / f"{n}.zarr", tile_rows=n)) for n in (2, 8)]
    assert fits[0].views == pytest.approx(fits[1].views, rel=1e-6)
    assert fits[0].structure == pytest.approx(fits[1].structure, rel=1e-4, abs=1e-6)
    # Tiles of another cut that are there already, and overlap with those of this one.
    with pytest.raises(RuntimeError, match="planted"):
        run(tilts, tmp_path / "v.zarr", Dying(3), tile_rows=2)
    found = fit_of(run(tilts, tmp_path / "v.zarr", tile_rows=8))
    assert found.coverage == 1
    assert found.views == pytest.approx(fits[1].views, rel=1e-6)


@pytest.mark.parametrize("state", ["memory", "store"])
def test_coupled_tiles(
    make_tilts: Callable[..., Path], denoisers: Path, tmp_path: Path, state: str
) -> None:
    tilts = make_tilts(field=160)
    whole = fit_of(run(tilts, tmp_path / "whole.zarr"))
    cut = fit_of(run(tilts, tmp_path / "v.zarr", tile_columns=80, margin=32, state=state))
    assert cut.explained
    assert cut.views == pytest.approx(whole.views, rel=0.05)


def test_several_samples_have_the_mean_of_their_squares(
    tilts: Path, denoisers: Path, tmp_path: Path
) -> None:
    singles = [fit_of(run(tilts, tmp_path / f"{k}.zarr", seed=k)) for k in (0, 1)]
    both = fit_of(run(tilts, tmp_path / "v.zarr", samples=2))
    expected = math.sqrt(sum(fit.ratio**2 for fit in singles) / 2)
    assert both.ratio == pytest.approx(expected, rel=1e-6)


def test_receipts_of_former_versions(tilts: Path, denoisers: Path, tmp_path: Path) -> None:
    result = run(tilts, tmp_path / "v.zarr")
    record = RunRecord(locate(tmp_path / "v.zarr", "out"))
    for number, receipt in enumerate(list(record.receipts(result.problem.digest()))):
        del receipt["fit"]
        record.add_receipt(receipt, RECEIPTS)
        found = run(tilts, tmp_path / "v.zarr").fit
        if number == 0:
            assert found is not None
            assert found.coverage == 0.5
    assert found is None
    kept = record.read_json("provenance")
    record.write_json("provenance", {k: v for k, v in kept.items() if k != "fit"})
    assert status(tmp_path / "v.zarr").fit is None


def test_strict_ends_with_its_own_status(
    tilts: Path,
    disordered: Path,
    denoisers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The volume is there, complete, whatever the verdict."""
    words = [f"--set={key}={value}" for key, value in {**KEYS, "sigma_y": NOISE}.items()]
    for source, strict, expected in (
        (tilts, True, 0), (disordered, False, 0), (disordered, True, 4),
    ):  # fmt: skip
        out = tmp_path / f"{source.parent.name}.zarr"
        flags = ["--engine", "local", "--quiet", *words, *(["--strict"] if strict else [])]
        assert main(["reconstruct", str(source), str(out), *flags]) == expected
        printed = capsys.readouterr().out
        assert ("NOT explained" in printed) == (source == disordered)
        assert main(["status", str(out), "--json"]) == 0
        seen = json.loads(capsys.readouterr().out)
        assert seen["state"] == "complete"
        assert seen["fit"]["explained"] == (source == tilts)
