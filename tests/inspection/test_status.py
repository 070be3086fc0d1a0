"""How far a run is can be read from its store alone."""

import importlib
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ddgm_dist.cli import main
from ddgm_dist.cli import status as inspect
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError
from ddgm_dist.inspection.activity import activities
from ddgm_dist.inspection.run_status import Status
from ddgm_dist.inspection.status import status
from ddgm_dist.paths.claim import LEASE
from ddgm_dist.planning.presets import PRESETS
from ddgm_dist.records.run_record import COMPLETE, RUNNING, RunRecord
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import Event, Receipt, Report, StepEvent
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

KEYS: dict[str, Any] = {
    "N": 3, "K": 2, "rows_per_call": 2, "denoiser": "thirding:third", "checkpoint_every": 0,
}  # fmt: skip


class Stopped(Exception):
    pass


class Stopping(LocalEngine):
    """Looks at the status, and then fails, after so many steps."""

    def __init__(self, steps: int, out: Path) -> None:
        self.steps, self.out = steps, out

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def listen(event: Event) -> None:
            report(event)
            self.steps -= isinstance(event, StepEvent)
            if self.steps == 0:
                self.while_running = status(self.out)
                raise Stopped

        super().run(job, done, listen)


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("status")
    (folder / "thirding.py").write_text("def third(x, sigma):\n    return x / 3\n")
    data = 100 + np.random.default_rng(0).standard_normal((5, 6, 90)).astype(np.float32)
    angles = (-40.0, -20.0, 0.0, 20.0, 40.0)
    write_tilt_series(folder / "tilts.zarr", data, TiltSeriesMeta(angles, thickness_px=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("thirding")
        yield folder / "tilts.zarr"
    del sys.modules["thirding"]


@pytest.mark.parametrize(
    "cut", [{}, {"tile_columns": 48, "margin": 24, "tile_rows": 2}], ids=["free", "coupled"]
)
def test_running_interrupted_complete(
    tilts: Path, tmp_path: Path, cut: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out, keys = tmp_path / "out.zarr", {**KEYS, **cut}
    engine = Stopping(5, out)
    with pytest.raises(Stopped):
        reconstruct(tilts, out, keys, engine)
    assert engine.while_running.state == "running"
    assert engine.while_running.holder is not None
    found = status(out)
    assert found.state == "interrupted"
    assert found.holder is None
    assert found.tiles == (6 if cut else 3)
    assert found.fraction == pytest.approx(5 / (18 if cut else 9), rel=0.02)
    assert len(found.checkpoints) == 1
    assert found.checkpoints[0].iteration in range(1, 3)
    assert found.checkpoint_age == found.checkpoints[0].age >= 0
    assert found.residual is not None
    assert found.residual > 0
    assert found.last_event is not None
    assert main(["status", str(out)]) == 3
    assert "to resume" in capsys.readouterr().out
    reconstruct(tilts, out, keys, "local")
    found = status(out)
    assert (found.state, found.fraction, found.tiles_done) == ("complete", 1.0, found.tiles)
    assert found.checkpoints == ()
    assert main(["status", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "complete"


def test_a_preset_is_named_and_is_not_part_of_the_problem(
    tilts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, told = tmp_path / "out.zarr", "paper, but K = 2, N = 3"
    result = reconstruct(tilts, out, {**KEYS, "preset": "paper"}, "local")
    assert f"preset          {told}\n" in result.describe()
    assert f"preset        {told}\n" in status(out).describe()
    assert main(["status", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["preset"] == {"name": "paper", "changed": {"N": 3, "K": 2}}
    words = ["plan", str(tilts), "--preset", "paper", "--set", "denoiser=thirding:third"]
    assert main([*words, "--set", "N=3", "--set", "K=2.0"]) == 0
    page = capsys.readouterr().out
    assert f"preset          {told}\n" in page
    assert re.search(r"fast +3 +1 +29 +1\n", page)
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["preset"] == {"name": "paper", "changed": {}}
    assert plan["presets"]["paper"]["denoiser_calls"] == 50
    # Its values written out resume what it began.
    written = PRESETS["paper"].values | KEYS
    again = reconstruct(tilts, out, written, "local")
    assert again.problem.digest() == result.problem.digest()
    assert "nothing was left to do" in again.describe()
    assert "\npreset" not in again.describe()
    assert status(out).preset is None


def test_it_works_while_files_come_and_go(tilts: Path, tmp_path: Path) -> None:
    """None of the files that a run replaces or deletes is needed."""
    out = tmp_path / "out.zarr"
    with pytest.raises(Stopped):
        reconstruct(tilts, out, KEYS, Stopping(4, out))
    record = RunRecord(out)
    for name in ("plan", "progress", "state"):
        record.delete(name)
        assert status(out).state == "interrupted"
        status(out).describe()


def test_a_dead_or_expired_lease_is_an_interrupted_run(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stopped):
        reconstruct(tilts, out, KEYS, Stopping(4, out))
    held = {"owner": "x", "host": "elsewhere", "pid": 3, "process_started": ""}
    for expires, state in ((4e9, "running"), (1.0, "interrupted")):
        RunRecord(out).write_json(LEASE, {**held, "expires": expires})
        assert status(out).state == state


def test_what_is_no_output_is_refused(tilts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no record"):
        status(tilts)
    with pytest.raises(InputError, match="does not exist"):
        status(tmp_path / "none.zarr")


def test_a_timeline_is_drawn_from_the_command_line(tilts: Path, tmp_path: Path) -> None:
    out, png = tmp_path / "out.zarr", tmp_path / "t.png"
    result = reconstruct(tilts, out, KEYS, "local")
    (session,) = activities(RunRecord(out).events())
    assert set(session.spans) == {"local"}
    for phase in ("gradient", "denoise", "read", "write"):
        drawn = sum(b - a for a, b in session.spans["local"][phase])
        assert drawn == pytest.approx(result.seconds[phase], rel=1e-3), phase
    assert main(["status", str(out), "--timeline", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_log_has_every_event_once(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stopped):
        reconstruct(tilts, out, KEYS, Stopping(4, out))
    result = reconstruct(tilts, out, KEYS, "local")
    log = RunRecord(out).events()
    assert len({event["session"] for event in log}) == 2
    steps = [(e["tile"], e["iteration"]) for e in log if e["event"] == "step"]
    assert len(set(steps)) == 9
    assert len(steps) <= 10  # the one that was not yet committed
    tiles = [e["tile"] for e in log if e["event"] == "tile"]
    assert sorted(tiles) == sorted(t.name for t in result.plan.tiles)
    assert all(Receipt(**{k: e[k] for k in Receipt.__dataclass_fields__}) for e in log
               if e["event"] == "tile")  # fmt: skip


# -- without a run: the files alone ---------------------------------------------------------------

ELSEWHERE = {"owner": "x", "host": "elsewhere", "pid": 3, "process_started": "", "expires": 4e9}


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A run of 8 tiles on another host, half done."""
    record = RunRecord(tmp_path / "out.zarr")
    now = time.time()
    record.write_json("problem", {})
    record.write_state(RUNNING, "p")
    record.write_json("plan", {"tiles": 8, "iterations": 50})
    record.write_json(LEASE, ELSEWHERE)
    record.write_json(
        "progress",
        {
            "updated": now - 4, "last_event": now - 7, "voxels_done": 500, "voxels_total": 1000,
            "rate": 5.0, "workers": 3, "losses": 2, "repeated": 40, "iterations": [3, 9],
            "iteration": 8, "sigma": 0.5, "residual": 1.25,
        },
    )  # fmt: skip
    for name in ("y0", "y1"):
        record.add_receipt({"tile": name, "problem": "p"})
    for unit, n, age in (("y2", 9, 100), ("y3", 3, 20)):
        known = [{"iteration": n, "digests": {}}, {"iteration": n - 2, "digests": {}}]
        record.write_json(f"commits/p/{unit}", {"time": now - age, "generations": known})
    return record


def read(record: RunRecord) -> Status:
    return status(record.folder.parent)


def test_everything_that_the_files_tell(record: RunRecord) -> None:
    found = read(record)
    assert (found.state, found.holder) == ("running", "process 3 on elsewhere")
    assert (found.tiles_done, found.tiles, found.fraction) == (2, 8, 0.5)
    assert (found.rate, found.eta_seconds, found.workers) == (5.0, 100.0, 3)
    assert (found.losses, found.repeated, found.iterations) == (2, 40, (3, 9))
    assert (found.iteration, found.sigma, found.residual) == (8, 0.5, 1.25)
    assert [(c.unit, c.iteration) for c in found.checkpoints] == [("y2", 9), ("y3", 3)]
    ages = (found.checkpoint_age, found.updated, found.last_event)
    assert ages == pytest.approx((100, 4, 7), abs=2)
    page = found.describe()
    for words in (
        "running, by process 3 on elsewhere", "2 of 8", "50.0 %", "3 to 9 of 50", "1 min 40 s left",
        "iteration 9 of 50, sigma 0.5, residual 1.25", "2 workers lost",
        "2 at iterations 3 to 9, the oldest 1 min 40 s ago",
    ):  # fmt: skip
        assert words in page, words
    assert json.loads(json.dumps(found.to_dict()))["checkpoints"][0]["unit"] == "y2"


def test_a_run_that_ends_while_it_is_looked_at_was_not_interrupted(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two reads."""
    read_json = RunRecord.read_json
    for reads in range(6):
        record.write_state(RUNNING, "p")
        record.write_json(LEASE, ELSEWHERE)
        left = [reads]

        def ending(self: RunRecord, name: str, left: list[int] = left) -> Any:
            if left[0] == 0:
                record.write_state(COMPLETE, "p")
                record.delete(LEASE)
            left[0] -= 1
            return read_json(self, name)

        monkeypatch.setattr(RunRecord, "read_json", ending)
        assert read(record).state in ("running", "complete")
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["plan", "progress", "commits/p/y2", LEASE])
@pytest.mark.parametrize(
    "value", [None, [], 5, {}, {"tiles": "x", "voxels_total": None, "pid": []}]
)
def test_files_that_make_no_sense_are_unknown_and_no_error(
    record: RunRecord, name: str, value: Any
) -> None:
    record.write_json(name, value)
    found = read(record)
    found.describe()
    assert found.state == ("interrupted" if name == LEASE else "running")
    assert 0 <= found.fraction <= 1


@pytest.mark.parametrize("name", ["plan", "progress", "commits/p/y2"])
def test_a_file_that_is_half_there_is_unknown(record: RunRecord, name: str) -> None:
    (record.folder / f"{name}.json").write_text('{"til')
    assert read(record).state == "running"


@pytest.mark.parametrize("name", ["problem", "state"])
def test_a_damaged_record_is_told(record: RunRecord, name: str) -> None:
    (record.folder / f"{name}.json").write_text('{"sta')
    assert main(["status", str(record.folder.parent)]) == 2


def test_a_run_that_has_only_just_begun(tmp_path: Path) -> None:
    RunRecord(tmp_path / "out.zarr").write_json(LEASE, ELSEWHERE)
    found = status(tmp_path / "out.zarr")
    assert (found.state, found.fraction, found.tiles) == ("running", 0.0, 0)
    assert "running" in found.describe()


def test_a_run_that_was_killed_as_it_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has left its lease and nothing else; what else has no record is no run."""
    out = tmp_path / "out.zarr"
    RunRecord(out).write_json(LEASE, {**ELSEWHERE, "expires": 1.0})
    assert main(["status", str(out)]) == 3
    page = capsys.readouterr().out
    assert "interrupted" in page
    assert "nothing is written yet" in page
    assert "run reconstruct again" in page
    (out / "data").write_bytes(b"x")
    with pytest.raises(InputError, match="holds no record"):
        status(out)
    with pytest.raises(InputError, match="interrupted before it had written anything"):
        status(tmp_path / "none.zarr")


def test_nothing_is_written(record: RunRecord) -> None:
    def files() -> dict[Path, tuple[int, bytes]]:
        every = [p for p in record.folder.parent.rglob("*") if p.is_file()]
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in every}

    before = files()
    assert main(["status", str(record.folder.parent), "--json"]) == 0
    assert files() == before


def test_watching_ends_with_the_run(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([None, None, lambda: record.write_state(COMPLETE, "p")])

    def sleep(seconds: float) -> None:
        assert seconds == 2.0
        change = next(looks)
        if change:
            change()

    monkeypatch.setattr(inspect, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
    assert main(["status", str(record.folder.parent), "--watch", "2", "--json"]) == 0
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["running", "running", "running", "complete"]
