"""From an object store into an object store: the bits that files give, whatever interrupts a run."""

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddgm_dist
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.inspection.status import status
from ddgm_dist.inspection.verify import verify
from ddgm_dist.paths.files import delete, files_below, listdir, read_bytes
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import ObjectPath
from ddgm_dist.records.result import open_result
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import Event, Receipt, Report, SaveEvent, StepEvent
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import open_tilt_series, write_tilt_series

Solve = Callable[..., tuple[np.ndarray, Any]]

KEYS: dict[str, Any] = {
    "N": 4, "K": 5, "rows_per_call": 2, "tile_rows": 2, "denoiser": "smoother:smooth",
}  # fmt: skip
COUPLED = {"tile_columns": 48, "margin": 24}


class Interrupted(LocalEngine):
    """Fails after so many events."""

    def __init__(self, after: int = -1) -> None:
        self.after, self.seen = after, list[Event]()

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.seen)

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def listen(event: Event) -> None:
            report(event)
            self.seen.append(event)
            if len(self.seen) == self.after:
                raise InterruptedError

        super().run(job, done, listen)


@pytest.fixture(scope="module")
def tilts(make_tilts: Callable[..., Path]) -> Path:
    return make_tilts(rows=6, field=144)


@pytest.fixture(scope="module")
def far_tilts(bucket: str, tilts: Path) -> str:
    """The tilt series of the other tests, in the bucket."""
    here, url = open_tilt_series(tilts), f"{bucket}/in/tilts.zarr"
    write_tilt_series(url, here.read(slice(None)), here.meta)
    return url


@pytest.fixture
def out(bucket: str) -> str:
    return f"{bucket}/{uuid.uuid4().hex}/volume.zarr"


@pytest.mark.parametrize(
    "keys", [{}, COUPLED, {**COUPLED, "state": "store"}], ids=["free", "coupled", "store"]
)
def test_the_bits_and_the_metadata_are_those_of_files(
    solve: Solve, tilts: Path, far_tilts: str, out: str, keys: dict[str, Any]
) -> None:
    expected, near = solve(tilts, **KEYS, **keys)
    result = reconstruct(far_tilts, out, {**KEYS, **keys}, "local")
    assert result.path == out
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    here, there = Path(near.path), locate(out, "out")
    for name in ("0/zarr.json", "ddgm_dist/zarr.json"):
        assert read_bytes(there / name) == (here / name).read_bytes()
    ours = {"/".join(p) for depth in (1, 2, 4, 5) for p in files_below(there, depth)}
    theirs = {
        "/".join(p)
        for depth in (1, 2, 4, 5)
        for p in files_below(here, depth)
        if here.joinpath(*p).is_file() and "lock" not in p[-1]
    }
    assert ours == theirs
    assert verify(out) == {}
    assert status(out).state == "complete"


@pytest.mark.usefixtures("denoisers")
@pytest.mark.parametrize("keys", [{}, COUPLED], ids=["free", "coupled"])
def test_an_interrupted_run_goes_on(
    solve: Solve, tilts: Path, far_tilts: str, out: str, keys: dict[str, Any]
) -> None:
    expected, _ = solve(tilts, **KEYS, **keys)
    every = {**KEYS, **keys, "checkpoint_every": 0}
    per_group = 3 if keys else 1
    first, second = Interrupted(7 * per_group), Interrupted()
    with pytest.raises(InterruptedError):
        reconstruct(far_tilts, out, every, first)
    assert first.count(SaveEvent) > 0
    found = status(out)
    assert (found.state, len(found.checkpoints)) == ("interrupted", 1)
    with pytest.raises(StorageError, match="not whole"):
        open_result(out)
    result = reconstruct(far_tilts, out, every, second)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    steps = 4 * 3 * per_group
    assert first.count(StepEvent) + second.count(StepEvent) <= steps + 2 * per_group
    left = listdir(locate(out, "out") / "ddgm_dist")
    assert not {"commits", "generations", "lease.json"} & set(left)


@pytest.mark.usefixtures("denoisers")
def test_a_finished_tile_whose_shard_is_lost_is_done_again(far_tilts: str, out: str) -> None:
    expected = reconstruct(far_tilts, out, KEYS, "local").to_dask().compute()
    delete(locate(out, "out") / "0/c/0/1/0")
    assert list(verify(out).values()) == ["missing"]
    engine = Interrupted()
    result = reconstruct(far_tilts, out, KEYS, engine)
    assert engine.count(Receipt) == 1
    np.testing.assert_array_equal(result.to_dask().compute(), expected)


@pytest.mark.usefixtures("denoisers")
def test_an_output_is_replaced_only_when_asked(far_tilts: str, out: str) -> None:
    one, other = KEYS, {**KEYS, "seed": 1}
    expected = reconstruct(far_tilts, out, one, "local").to_dask().compute()
    with pytest.raises(InputError, match=r"changed: .*seed"):
        reconstruct(far_tilts, out, other, "local")
    reconstruct(far_tilts, out, other, "local", overwrite=True)
    assert not np.array_equal(open_result(out).to_dask().compute(), expected)
    reconstruct(far_tilts, out, one, "local", overwrite=True)
    np.testing.assert_array_equal(open_result(out).to_dask().compute(), expected)
    with pytest.raises(InputError, match="is the input tilts"):
        reconstruct(far_tilts, far_tilts, one, "local")
    with pytest.raises(InputError, match="contains the input tilts"):
        reconstruct(far_tilts, far_tilts.rpartition("/")[0], one, "local", overwrite=True)
    open_tilt_series(far_tilts)


class Waiting(LocalEngine):
    """Holds the output until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        self.begun.set()
        assert self.go_on.wait(600)
        super().run(job, done, report)


@pytest.mark.usefixtures("denoisers")
def test_a_second_driver_is_refused(far_tilts: str, out: str) -> None:
    engine = Waiting()
    first = threading.Thread(target=reconstruct, args=(far_tilts, out, KEYS, engine))
    first.start()
    try:
        assert engine.begun.wait(600)
        assert status(out).state == "running"
        with pytest.raises(InputError, match="is being written by process"):
            reconstruct(far_tilts, out, KEYS, "local")
    finally:
        engine.go_on.set()
        first.join()
    assert status(out).state == "complete"


@pytest.mark.usefixtures("denoisers")
def test_evaluate_pyramid_simulate_and_the_command_line(
    far_tilts: str, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddgm_dist.cli import main

    words = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
    near = tmp_path / "near.zarr"
    for place in (out, f"file://{near}"):
        arguments = ["reconstruct", far_tilts, place, *words, "--engine", "local", "-q"]
        assert main(arguments) == 0, capsys.readouterr().err
    scores = ddgm_dist.evaluate(out, near)
    assert scores.mse == 0
    assert "the reach of the run's rays" in scores.region
    assert main(["pyramid", out, "--levels", "1"]) == 0
    assert main(["pyramid", str(near), "--levels", "1"]) == 0
    here, there = near, locate(out, "out")
    assert read_bytes(there / "1/zarr.json") == (here / "1/zarr.json").read_bytes()
    assert main(["status", out, "--verify", "--timeline", str(tmp_path / "t.png")]) == 0
    assert "are what was written" in capsys.readouterr().out
    again = out.replace("volume", "tilts")
    assert main(["simulate", out, again, "--tilts", "3"]) == 0
    assert main(["simulate", str(near), str(tmp_path / "tilts.zarr"), "--tilts", "3"]) == 0
    far, close = open_tilt_series(again), open_tilt_series(tmp_path / "tilts.zarr")
    assert far.fingerprint() == close.fingerprint()
    assert main(["simulate", out, again, "--tilts", "3"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["plan", again]) == 0


@pytest.mark.usefixtures("denoisers")
def test_nothing_secret_is_kept(far_tilts: str, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = locate(out, "out")
    reconstruct(far_tilts, out, KEYS, "local")
    assert isinstance(place, ObjectPath)
    for depth in range(1, 6):
        for parts in files_below(place, depth):
            data = read_bytes(place / "/".join(parts)) or b""
            assert b"somebody" not in data
            assert b"a-secret" not in data


@pytest.fixture
def cluster(denoisers: Path, bucket: str) -> Iterator[None]:
    """A cluster whose workers find the denoisers and the bucket."""
    from ddgm_dist.ray_engine.cluster import connected

    with connected(None):
        yield


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.usefixtures("cluster")
def test_two_workers_of_ray_give_the_same(
    solve: Solve, tilts: Path, far_tilts: str, bucket: str
) -> None:
    from ddgm_dist.ray_engine.engine import RayEngine

    for number, keys in enumerate([{}, COUPLED]):
        expected, _ = solve(tilts, **KEYS, **keys)
        out = f"{bucket}/ray/{number}.zarr"
        every = {**KEYS, **keys, "checkpoint_every": 0}
        result = reconstruct(far_tilts, out, every, RayEngine(workers=2))
        np.testing.assert_array_equal(result.to_dask().compute(), expected)
        assert verify(out) == {}
