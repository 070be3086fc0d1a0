"""What lies on disk is damaged or lost: reported with its place, and the run can be resumed."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.errors import StorageError
from ddgm_dist.inspection.status import status
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, Receipt, SaveEvent, StepEvent

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]
Watched = Callable[..., Any]

COUPLED: dict[str, Any] = {"tile_columns": 48, "margin": 24}
KEYS: dict[str, Any] = {"N": 6, "tile_rows": 4, "checkpoint_every": 0}

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("two_cpus"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.mark.parametrize(("cut", "damage"), [({}, "remove"), (COUPLED, "flip")])
def test_a_damaged_checkpoint_costs_one_generation(
    make_tilts: MakeTilts,
    solve: Solve,
    watched: Watched,
    plant: Callable[[str], Path],
    tmp_path: Path,
    cut: dict[str, Any],
    damage: str,
) -> None:
    keys = {"K": 5, "rows_per_call": 2, **KEYS, **cut, "denoiser": "faulty:faulty"}
    tilts = make_tilts(field=144)
    expected, _ = solve(tilts, **KEYS, **cut)
    out = tmp_path / "out.zarr"
    late = plant("late")  # no tile ends its last iteration

    def stop(event: Event) -> None:
        if isinstance(event, SaveEvent) and event.iteration >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(tilts, out, keys, watched(stop, workers=1))
    late.unlink()
    record = RunRecord(out)
    state = record.read_state()
    assert state is not None
    commits, generations = (problem_dir(k, state["problem"]) for k in ("commits", "generations"))
    unit = max(
        record.names(commits),
        key=lambda u: record.read_json(f"{commits}/{u}")["generations"][0]["iteration"],
    )
    newest, before = record.read_json(f"{commits}/{unit}")["generations"]
    column, block = max(newest["digests"]).split("/")
    n = newest["iteration"]
    ruin(out / f"ddgm_dist/{generations}/{n}/c/{column}/0/{block}/0", damage)
    engine = watched(workers=2)
    result = reconstruct(tilts, out, keys, engine)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    damaged = [f for f in engine.faults() if f.kind == "checkpoint-damaged"]
    assert damaged
    assert f"iteration {n}, chunk {column}/{block}" in damaged[0].detail
    # The unit continued from the generation before, not from the start.
    rows = unit[:7]  # unit and tiles begin with their first row
    assert min(steps(engine, rows)) == before["iteration"] > 0


def ruin(chunk: Path, damage: str) -> None:
    """Flip a byte of a file, remove it, or put the first of these files in its place."""
    if damage == "remove":
        chunk.unlink()
    elif damage == "replace":
        shutil.copy(chunk.parents[1] / "0" / "0", chunk)
    else:
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 4
        chunk.write_bytes(data)


def steps(engine: Any, rows: str) -> list[int]:
    """Iterations of the tiles whose names begin so, as they were done."""
    found = [event for event in engine.seen if isinstance(event, StepEvent)]
    return [event.iteration for event in found if event.tile.startswith(rows)]


@pytest.mark.parametrize("damage", ["flip", "remove", "replace"])
def test_a_damaged_piece_of_the_input_is_reported_with_its_place(
    make_tilts: MakeTilts, solve: Solve, watched: Watched, tmp_path: Path, damage: str
) -> None:
    """Found by a worker, after the run has begun; what was finished before is kept."""
    whole, tilts, out = make_tilts(rows=64), tmp_path / "tilts.zarr", tmp_path / "out.zarr"
    shutil.copytree(whole, tilts)
    first: list[str] = []

    def harm(event: Event) -> None:
        if isinstance(event, Receipt) and not first:
            first.append(event.tile)
            for row in range(2, 8):
                ruin(tilts / f"projections/c/0/{row}/0", damage)

    keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 8, "denoiser": "smoother:smooth"}
    state = "missing" if damage == "remove" else "unreadable"
    place = (
        rf"chunk \(0, \d, 0\) of .*tilts\.zarr/projections is {state}: "
        r"tilts 0 to 10, rows (\d+) to (\d+), columns 0 to 99;"
    )
    if damage == "replace":
        place = r"tilt 0, 1, 2, \.\.\., rows (\d+) to (\d+), columns 0 to 99 hold other pixels"
    with pytest.raises(StorageError, match=place) as caught:
        reconstruct(tilts, out, keys, watched(harm, workers=1))
    assert "\n" not in str(caught.value)
    found = re.search(place, str(caught.value))
    assert found is not None
    row = int(found[1])
    assert row in range(16, 64, 8)
    assert int(found[2]) == row + 7
    found = status(out)
    assert (found.state, found.tiles) == ("interrupted", 8)
    assert 1 <= found.tiles_done < 8
    # With a good copy in its place the run continues, and does nothing twice.
    shutil.rmtree(tilts)
    shutil.copytree(whole, tilts)
    record = RunRecord(out)
    state = record.read_state()
    assert state is not None
    kept = list(record.receipts(state["problem"]))
    assert first[0] in [receipt["tile"] for receipt in kept]
    result = reconstruct(tilts, out, keys, "local")
    np.testing.assert_array_equal(result.to_dask().compute(), solve(whole, N=2, tile_rows=8)[0])
    assert [record.receipt(receipt["tile"], state["problem"]) for receipt in kept] == kept
