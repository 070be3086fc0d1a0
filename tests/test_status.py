"""The store alone tells how far a run is."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.cli import main
from ddgm_dist.engine.base import Event, FaultEvent, Job, Receipt, Report, StepEvent
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError
from ddgm_dist.reconstruct import reconstruct
from ddgm_dist.status import read_status, verify
from ddgm_dist.storage.lease import LEASE
from ddgm_dist.storage.run_record import RunRecord
from ddgm_dist.storage.tilt_series import TiltSeriesMeta, write_tilt_series
from ddgm_dist.timeline import draw_timeline, spans

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
                self.while_running = read_status(self.out)
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
    found = read_status(out)
    assert found.state == "interrupted"
    assert found.holder is None
    assert found.tiles == (6 if cut else 3)
    assert found.fraction == pytest.approx(5 / (18 if cut else 9), rel=0.02)
    assert found.checkpoints == 1
    assert main(["status", str(out)]) == 3
    assert "go on" in capsys.readouterr().out
    reconstruct(tilts, out, keys, "local")
    found = read_status(out)
    assert (found.state, found.fraction, found.tiles_done) == ("complete", 1.0, found.tiles)
    assert found.checkpoints == 0
    assert main(["status", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "complete"


def test_it_works_while_files_come_and_go(tilts: Path, tmp_path: Path) -> None:
    """None of the files that a run replaces or deletes is needed."""
    out = tmp_path / "out.zarr"
    with pytest.raises(Stopped):
        reconstruct(tilts, out, KEYS, Stopping(4, out))
    record = RunRecord(out)
    for name in ("plan", "progress", "state"):
        record.delete(name)
        assert read_status(out).state == "interrupted"
        read_status(out).describe()


def test_a_dead_or_expired_lease_is_an_interrupted_run(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stopped):
        reconstruct(tilts, out, KEYS, Stopping(4, out))
    held = {"owner": "x", "host": "elsewhere", "pid": 3, "process_started": ""}
    for expires, state in ((4e9, "running"), (1.0, "interrupted")):
        RunRecord(out).write_json(LEASE, {**held, "expires": expires})
        assert read_status(out).state == state


def test_damage_is_found_and_named(
    tilts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    reconstruct(tilts, out, KEYS, "local")
    assert verify(out) == []
    (out / "0/c/0/0/0").unlink()
    shard = out / "0/c/0/2/0"
    data = bytearray(shard.read_bytes())
    data[30] ^= 1
    shard.write_bytes(data)
    assert verify(out) == ["y000000-x000000", "y000004-x000000"]
    assert main(["status", str(out), "--verify"]) == 2
    assert "2 tiles: y000000-x000000" in capsys.readouterr().err


def test_what_is_no_output_is_refused(tilts: Path, tmp_path: Path) -> None:
    for path in (tilts, tmp_path / "none.zarr"):
        with pytest.raises(InputError, match="holds no record"):
            read_status(path)


def test_a_timeline_is_drawn(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    result = reconstruct(tilts, out, KEYS, "local")
    lanes = spans(RunRecord(out).events())
    assert set(lanes) == {"local"}
    drawn = sum(b - a for a, b in lanes["local"]["denoise"])
    assert drawn == pytest.approx(result.seconds["denoise"], rel=1e-3)
    RunRecord(out).append_events(
        "later",
        [{"event": "fault", **FaultEvent("worker-lost", "w", "", "", "", 1e9).__dict__}],
    )
    draw_timeline(out, tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


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
