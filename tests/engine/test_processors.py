"""Another kind of processor than those that have worked on a problem is reported, once, also later."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddgm_dist.engine import local
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.processors import mixture
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import Event, FaultEvent, Report
from ddgm_dist.tile.job import Job


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(tmp_path / "out.zarr")


def test_the_first_kind_is_none(record: RunRecord) -> None:
    assert mixture(record, "p", {"AVX2": "a"}, "w") is None
    assert mixture(record, "p", {"AVX2": "b"}, "w") is None


def test_another_is_reported_once_with_where_each_was(record: RunRecord, tmp_path: Path) -> None:
    mixture(record, "p", {"AVX2": "a"}, "w")
    event = mixture(RunRecord(tmp_path / "out.zarr"), "p", {"AVX512": "b"}, "w")
    assert event is not None
    assert event.kind == "mixed-processors"
    assert "AVX2 on node a, AVX512 on node b" in event.detail
    assert mixture(record, "p", {"AVX512": "c", "AVX2": "d"}, "w") is None
    assert mixture(record, "another", {"AVX512": "c"}, "w") is None


def test_two_at_once_are_reported(record: RunRecord) -> None:
    assert mixture(record, "p", {"AVX2": "a", "AVX512": "b"}, "w") is not None


def test_a_damaged_note_stops_nothing(record: RunRecord) -> None:
    mixture(record, "p", {"AVX2": "a"}, "w")
    (path,) = record.folder.glob("processors/*.json")
    path.write_text("{")
    assert mixture(record, "p", {"AVX512": "b"}, "w") is None
    assert json.loads(path.read_text()) == {"AVX512": "b"}


class Watched(LocalEngine):
    seen: list[Event]

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        self.seen = []

        def listen(event: Event) -> None:
            self.seen.append(event)
            report(event)

        super().run(job, done, listen)


def test_a_run_that_is_resumed_elsewhere_reports_it(
    begin: Callable[..., Job], tilts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin()
    LocalEngine().run(job, frozenset(t.name for t in job.plan.tiles), lambda event: None)
    monkeypatch.setattr(local, "processor", lambda device: "another")
    engine = Watched()
    keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 4, "denoiser": "smoother:smooth"}
    reconstruct(tilts, tmp_path / "out.zarr", keys, engine)
    assert [e.kind for e in engine.seen if isinstance(e, FaultEvent)] == ["mixed-processors"]
