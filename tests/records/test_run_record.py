"""The record beside a result: atomic files, receipts, and whether the volume is whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.records.result import open_result
from ddgm_dist.records.run_record import COMPLETE, RUNNING, RunRecord
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume

LAYOUT = VolumeLayout((4, 4, 4), (4, 4, 4), (4, 4, 4))


PROBLEM = "f" * 64
RECEIPT = {
    "tile": "y0-x0", "digest": "a", "seconds": {}, "worker": "w", "problem": PROBLEM,
    "start": [0, 0, 0], "stop": [4, 4, 4],
}  # fmt: skip


def receipt(tile, digest):
    return {**RECEIPT, "tile": tile, "digest": digest}


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out.zarr"
    create_volume(path, LAYOUT, voxel_size_nm=None, name="t")
    return path


def test_json_comes_back(out):
    record = RunRecord(out)
    value = {
        "a": [1, 2.5, None],
        "n": np.float32(0.5),
        "k": np.arange(2),
        "p": Path("x"),
        "t": (1,),
    }
    record.write_json("timings", value)
    assert record.read_json("timings.json") == {
        "a": [1, 2.5, None],
        "n": 0.5,
        "k": [0, 1],
        "p": "x",
        "t": [1],
    }
    assert record.read_json("other") is None
    assert (out / "ddgm_dist/timings.json").is_file()


def test_a_failed_write_leaves_the_old_file_and_no_litter(out, monkeypatch):
    record = RunRecord(out)
    record.write_json("state", {"n": 1})

    def full(_self, _target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"bytes to .*state\.json.*No space left"):
        record.write_json("state", {"n": 2})
    assert record.read_json("state") == {"n": 1}
    assert {f.name for f in (out / "ddgm_dist").iterdir()} == {"zarr.json", "state.json"}


def test_what_json_does_not_know_is_refused(out):
    record = RunRecord(out)
    with pytest.raises(ValueError, match="JSON"):
        record.write_json("a", {"x": float("nan")})
    with pytest.raises(TypeError, match="JSON"):
        record.write_json("a", {"x": object()})
    assert record.read_json("a") is None


@pytest.mark.parametrize("name", ["", "../a", "a/b/c/d", "/a", ".hidden", "a b", "..", "x/../y"])
def test_names_cannot_leave_the_folder(out, name):
    with pytest.raises(ValueError, match=r"name|folder"):
        RunRecord(out).write_json(name, 1)
    with pytest.raises(ValueError, match=r"name|folder"):
        RunRecord(out).add_receipt({"tile": name, "problem": "p"})


def test_receipts_are_kept_by_tile(out):
    record = RunRecord(out)
    assert list(record.receipts(PROBLEM)) == []
    record.add_receipt(receipt("y0-x0", "a"))
    record.add_receipt(receipt("y8-x0", "b"))
    record.add_receipt(receipt("y0-x0", "c"))
    (out / f"ddgm_dist/receipts/{PROBLEM[:16]}/.y9.json.123.tmp").write_text('{"tile": ')
    assert list(RunRecord(out).receipts(PROBLEM)) == [receipt("y0-x0", "c"), receipt("y8-x0", "b")]
    assert record.receipt("y8-x0", PROBLEM) == receipt("y8-x0", "b")
    with pytest.raises(ValueError, match="name"):
        record.add_receipt({"digest": "d", "problem": PROBLEM})


def test_receipts_of_another_problem_are_not_seen(out):
    record, other = RunRecord(out), "e" * 64
    record.add_receipt(receipt("y0-x0", "a"))
    record.add_receipt({**receipt("y0-x0", "b"), "problem": other})
    assert [r["digest"] for r in record.receipts(PROBLEM)] == ["a"]
    assert record.receipt("y0-x0", other)["digest"] == "b"
    record.delete_others("receipts", PROBLEM)
    assert [r["digest"] for r in record.receipts(PROBLEM)] == ["a"]
    assert list(record.receipts(other)) == []


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "5", '{"tile": "y0-x0"}', *[
        json.dumps(RECEIPT | change) for change in (
            {"start": None}, {"stop": [4, 4]}, {"start": [0, -1, 0]}, {"problem": "e" * 64},
            {"tile": "y8-x0"}, {"digest": 3}, {"seconds": None}, {"worker": None},
        )
    ]],
)  # fmt: skip
def test_a_damaged_receipt_is_none(out, caplog, damage):
    record = RunRecord(out)
    for tile in ("y0-x0", "y8-x0"):
        record.add_receipt(receipt(tile, "a"))
    (out / f"ddgm_dist/receipts/{PROBLEM[:16]}/y0-x0.json").write_text(damage)
    assert [r["tile"] for r in record.receipts(PROBLEM)] == ["y8-x0"]
    assert record.receipt("y0-x0", PROBLEM) is None
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == 2
    assert all("y0-x0.json is damaged" in line and "absent" in line for line in told)


def test_damaged_json_is_an_error(out):
    record = RunRecord(out)
    record.write_json("state", 1)
    (out / "ddgm_dist/state.json").write_text('{"sta')
    with pytest.raises(StorageError, match=r"state\.json"):
        record.read_json("state")
    for name, read in (("state", record.read_state), ("problem", record.read_problem)):
        for damaged in ('{"sta', "[1]", "3", ""):
            (out / f"ddgm_dist/{name}.json").write_text(damaged)
            with pytest.raises(StorageError, match=rf"{name}\.json is damaged.*--overwrite"):
                read()
    record.write_json("state", {"state": "running"})
    with pytest.raises(StorageError, match=r"state\.json is damaged"):
        record.read_state()


def test_events_are_lines_in_the_order_of_sessions(out):
    record = RunRecord(out)
    assert record.events() == []
    record.append_events("b", [{"time": 5.0, "residual": float("nan"), "norms": [np.inf, 2.0]}])
    record.append_events("b", [{"time": 7.0, "k": np.array([1.0, np.nan])}, {"time": 8.0}])
    record.append_events("a", [{"started": 6.0}])
    path = out / "ddgm_dist/events"
    (path / ".b-000002.jsonl.123.tmp").write_text('{"iterat')
    assert RunRecord(out).events() == [
        {"time": 5.0, "residual": None, "norms": [None, 2.0]},
        {"time": 7.0, "k": [1.0, None]},
        {"time": 8.0},
        {"started": 6.0},
    ]
    for file in path.glob("[!.]*.jsonl"):
        for line in file.read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("damage", ["flip", "cut", "zeros", "binary", "number", "empty"])
def test_damaged_lines_of_the_log_are_left_out_and_told(out, caplog, damage):
    record = RunRecord(out)
    for k in range(3):
        record.append_events("a", [{"time": 2.0 * k}, {"time": 2.0 * k + 1}])
    path = out / "ddgm_dist/events/a-000001.jsonl"
    first, second, _ = path.read_bytes().split(b"\n")
    ruined = {
        "flip": b"\n".join([bytes([first[0] ^ 32]) + first[1:], second, b""]),
        "cut": first[:-3] + b"\n" + second + b"\n",
        "zeros": b"\0" * len(first) + b"\n" + second + b"\n",
        "binary": b"\xff\xfe\n" + second + b"\n",
        "number": b"3\n" + second + b"\n",
        "empty": b"\n\n",
    }
    path.write_bytes(ruined[damage])
    kept = [0.0, 1.0, 4.0, 5.0] if damage == "empty" else [0.0, 1.0, 3.0, 4.0, 5.0]
    assert [event["time"] for event in RunRecord(out).events()] == kept
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == (damage != "empty")
    assert all("a-000001.jsonl is damaged: 1 lines" in line for line in told)


def test_a_log_that_begins_with_nonsense_is_read(out, caplog):
    record = RunRecord(out)
    record.append_events("b", [{"time": "soon"}, {"time": 3.0}])
    record.append_events("a", [{"time": 1.0}])
    assert [event["time"] for event in RunRecord(out).events()] == ["soon", 3.0, 1.0]
    assert not caplog.records


def test_only_a_complete_result_opens(out, tmp_path):
    record = RunRecord(out)
    with pytest.raises(InputError, match="no record of a run"):
        open_result(out)
    record.write_state(RUNNING, "abc")
    record.write_json("receipts/abc/t0", {})
    record.write_json("receipts/another/t1", {})
    with pytest.raises(StorageError, match=r"not whole.*1 tiles"):
        open_result(out)
    assert open_result(out, allow_partial=True).shape == (4, 4, 4)
    record.write_state(COMPLETE, "abc")
    assert open_result(out).shape == (4, 4, 4)
    assert record.read_state() == {"state": "complete", "problem": "abc"}
    with pytest.raises(InputError, match="does not exist"):
        open_result(tmp_path / "none.zarr")
    with pytest.raises(ValueError, match="state"):
        record.write_state("done", "abc")
