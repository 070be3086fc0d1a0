"""Damage to what is finished is found, and named; what is sound is not suspected."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.cli import main
from ddgm_dist.core.box import Box
from ddgm_dist.inspection.verify import verify
from ddgm_dist.records.run_record import COMPLETE, RUNNING, RunRecord
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume

BOXES = {f"y{y}": Box((0, y, 0), (4, min(y + 4, 10), 6)) for y in (0, 4, 8)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three tiles, the last cut off by the volume's edge."""
    path = tmp_path / "out.zarr"
    store = create_volume(
        path, VolumeLayout((4, 10, 6), (4, 4, 8), (4, 4, 8)), voxel_size_nm=None, name="t"
    )
    record, random = RunRecord(path), np.random.default_rng(0)
    record.write_json("problem", {})
    for name, box in BOXES.items():
        digest = store.write(box, random.standard_normal(box.shape))
        where = {"start": box.start, "stop": box.stop, "seconds": {}, "worker": "w"}
        record.add_receipt({"tile": name, "problem": "p", "digest": digest, **where})
    record.write_json("plan", {"tiles": 3})
    record.write_state(COMPLETE, "p")
    return path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)


def test_what_is_sound_is_not_suspected(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(out) == {}
    assert main(["status", str(out), "--verify"]) == 0
    assert "3 tiles are what was written" in capsys.readouterr().out


def test_damage_is_found_and_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "0/c/0/0/0").unlink()
    flip(out / "0/c/0/2/0")
    wrong = {"y0": "missing", "y8": "damaged"}
    assert verify(out) == wrong
    assert main(["status", str(out), "--verify"]) == 2
    assert "y0  missing\n  y8  damaged" in capsys.readouterr().err
    assert main(["status", str(out), "--verify", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["wrong"] == wrong


def test_a_shard_of_other_sound_voxels_is_found(out: Path) -> None:
    (out / "0/c/0/0/0").write_bytes((out / "0/c/0/1/0").read_bytes())
    assert verify(out) == {"y0": "damaged"}


def test_a_whole_volume_has_a_receipt_for_every_shard(out: Path) -> None:
    record = RunRecord(out)
    record.delete("receipts/p/y4")
    assert verify(out) == {"shard 0/1/0": "no receipt"}
    record.write_state(RUNNING, "p")
    assert verify(out) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"start": None}, {"stop": [4, 4]}, {"start": [0, -1, 0]}, {"stop": [4, 99, 6]},
        {"start": ["a", 0, 0]},
    ],
)  # fmt: skip
def test_a_receipt_that_makes_no_sense(out: Path, change: dict[str, Any]) -> None:
    record = RunRecord(out)
    record.write_state(RUNNING, "p")
    receipt = record.receipt("y0", "p")
    assert receipt is not None
    record.add_receipt(receipt | change)
    assert verify(out) == {"y0": "receipt damaged"}
    (record.folder / "receipts/p/y0.json").write_text("{")
    assert verify(out) == {"y0": "receipt damaged"}
