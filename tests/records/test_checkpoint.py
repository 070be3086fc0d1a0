"""A committed generation is what was written, or is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddgm_dist.errors import StorageError
from ddgm_dist.records import json_files
from ddgm_dist.records.checkpoint import (
    CheckpointDamagedError,
    CheckpointLayout,
    Checkpoints,
    Generation,
)

LAYOUT = CheckpointLayout(columns=3, depth=2, rows=7, support=20, block=2)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "out.zarr", LAYOUT, "problem")


def state(seed: int, rows: int = 4, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, rows, width)).astype(np.float32)


def chunks(tmp_path: Path) -> set[str]:
    folder = tmp_path / "out.zarr/ddgm_dist/generations/problem"
    return {str(p.relative_to(folder)) for p in folder.glob("*/c/*/*/*/*")}


def test_what_is_written_is_read_by_any_rows(checkpoints: Checkpoints) -> None:
    written = state(1, rows=5)
    digests = checkpoints.write(3, 1, 2, written)
    assert set(digests) == {"1/1", "1/2", "1/3"}
    generation = Generation(3, digests)
    np.testing.assert_array_equal(checkpoints.read(generation, 1, 2, 7), written)
    np.testing.assert_array_equal(checkpoints.read(generation, 1, 3, 5), written[:, 1:3])


def test_a_narrow_window_takes_the_first_columns(checkpoints: Checkpoints) -> None:
    written = state(1, width=11)
    generation = Generation(1, checkpoints.write(1, 0, 0, written))
    np.testing.assert_array_equal(checkpoints.read(generation, 0, 0, 4)[..., :11], written)


def test_the_same_state_has_the_same_digest_whoever_writes_it(checkpoints: Checkpoints) -> None:
    whole = checkpoints.write(1, 0, 0, state(1))
    again = checkpoints.write(1, 0, 0, state(1))
    halves = checkpoints.write(1, 0, 0, state(1)[:, :2])
    halves |= checkpoints.write(1, 0, 2, state(1)[:, 2:])
    assert whole == again == halves
    assert whole != checkpoints.write(1, 0, 0, state(2))


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_found(checkpoints: Checkpoints, tmp_path: Path, damage: str) -> None:
    generation = Generation(1, checkpoints.write(1, 2, 0, state(1)))
    path = tmp_path / "out.zarr/ddgm_dist/generations/problem/1/c/2/0/1/0"
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[40] ^= 1
        path.write_bytes(data[:-9] if damage == "cut" else data)
    checkpoints.read(generation, 2, 0, 2)  # the chunk beside it is sound
    with pytest.raises(CheckpointDamagedError, match="iteration 1, chunk 2/1") as caught:
        checkpoints.read(generation, 2, 0, 4)
    assert (caught.value.iteration, caught.value.chunk) == (1, "2/1")


def test_a_chunk_of_another_time_is_found(checkpoints: Checkpoints) -> None:
    """It is sound by its checksum, and not what was committed."""
    generation = Generation(1, checkpoints.write(1, 0, 0, state(1)))
    checkpoints.write(1, 0, 0, state(2))
    with pytest.raises(CheckpointDamagedError, match="not what was written"):
        checkpoints.read(generation, 0, 0, 4)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("UNAVAILABLE", StorageError),
        ("PERMISSION_DENIED", StorageError),
        ("RESOURCE_EXHAUSTED", StorageError),
        ("DATA_LOSS", CheckpointDamagedError),
        ("FAILED_PRECONDITION", CheckpointDamagedError),
    ],
)
def test_what_cannot_be_read_for_a_moment_is_not_damaged(
    checkpoints: Checkpoints, code: str, error: type[Exception]
) -> None:
    generation = Generation(1, checkpoints.write(1, 0, 0, state(1)))

    class Read:
        def result(self) -> np.ndarray:
            raise ValueError(
                f"{code}: no [http_response_body=<AWSAccessKeyId>AKIA</AWSAccessKeyId>]"
            )

    with pytest.raises(error, match=f"0/0.*{code}") as caught:
        checkpoints._checked(generation, "0/0", Read())
    assert type(caught.value) is error
    assert "AKIA" not in str(caught.value)


def test_two_generations_are_kept(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for n in (2, 5, 9):
        checkpoints.commit("unit", Generation(n, checkpoints.write(n, 0, 0, state(n))))
    kept = checkpoints.generations("unit")
    assert [g.iteration for g in kept] == [9, 5]
    for g in kept:
        np.testing.assert_array_equal(checkpoints.read(g, 0, 0, 4), state(g.iteration))
    assert chunks(tmp_path) == {f"{n}/c/0/0/{y}/0" for n in (5, 9) for y in (0, 1)}
    checkpoints.forget("unit")
    assert checkpoints.generations("unit") == []
    assert chunks(tmp_path) == set()


def test_committing_again_what_is_committed_changes_nothing(checkpoints: Checkpoints) -> None:
    """After a roll-back the same iterations come again."""
    for n in (1, 2, 2):
        checkpoints.commit("unit", Generation(n, checkpoints.write(n, 0, 0, state(n))))
    assert [g.iteration for g in checkpoints.generations("unit")] == [2, 1]


def test_who_comes_late_does_not_undo_what_others_did(checkpoints: Checkpoints) -> None:
    late = Generation(3, checkpoints.write(3, 0, 0, state(3)))
    for n in (5, 9):
        checkpoints.commit("unit", Generation(n, checkpoints.write(n, 0, 0, state(n))))
    assert checkpoints.commit("unit", late) == []
    assert [g.iteration for g in checkpoints.generations("unit")] == [9, 5]


def test_what_is_damaged_is_replaced_by_what_is_older(checkpoints: Checkpoints) -> None:
    for n in (5, 9):
        checkpoints.commit("unit", Generation(n, checkpoints.write(n, 0, 0, state(n))))
    checkpoints.damaged(9, "0/1")
    checkpoints.commit("unit", Generation(6, checkpoints.write(6, 0, 0, state(6))))
    assert [g.iteration for g in checkpoints.generations("unit")] == [6, 5]


def test_what_cannot_be_deleted_does_no_harm(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.commit("unit", Generation(5, checkpoints.write(5, 0, 0, state(5))))

    def refuse(name: str) -> None:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(checkpoints.record, "delete", refuse)
    assert [g.iteration for g in checkpoints.forget("unit")] == [5]


def test_records_of_another_problem_are_not_seen(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.commit("unit", Generation(1, checkpoints.write(1, 0, 0, state(1))))
    other = Checkpoints(tmp_path / "out.zarr", LAYOUT, "another-problem")
    assert other.generations("unit") == []
    assert other.committed() == []


def test_clear_leaves_nothing(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.commit("unit", Generation(1, checkpoints.write(1, 0, 0, state(1))))
    checkpoints.clear()
    assert checkpoints.committed() == []
    assert not list((tmp_path / "out.zarr/ddgm_dist").glob("*/*"))


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[1]", '{"problem": "problem"}',
     '{"problem": "problem", "generations": [{"iteration": "2", "digests": {}}]}',
     '{"problem": "problem", "generations": [{"iteration": 2, "digests": {"../0": "a"}}]}'],
)  # fmt: skip
def test_a_damaged_record_is_none_and_is_replaced(
    checkpoints: Checkpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for unit in ("a", "b"):
        checkpoints.commit(unit, Generation(2, checkpoints.write(2, 0, 0, state(2))))
    path = tmp_path / "out.zarr/ddgm_dist/commits/problem/a.json"
    path.write_text(damage)
    assert checkpoints.generations("a") == []
    assert [g.iteration for g in checkpoints.committed()] == [2]  # of the other unit
    assert "a.json is damaged" in caplog.text
    checkpoints.commit("a", Generation(3, checkpoints.write(3, 0, 0, state(3))))
    assert [g.iteration for g in checkpoints.generations("a")] == [3]


@pytest.mark.parametrize("damage", ["", "{", '{"zarr_format": 2}'])
def test_damaged_metadata_of_a_generation_cost_nothing(
    checkpoints: Checkpoints, tmp_path: Path, damage: str
) -> None:
    """They follow from the problem."""
    generation = Generation(1, checkpoints.write(1, 0, 0, state(1)))
    (tmp_path / "out.zarr/ddgm_dist/generations/problem/1/zarr.json").write_text(damage)
    other = Checkpoints(tmp_path / "out.zarr", LAYOUT, "problem")
    np.testing.assert_array_equal(other.read(generation, 0, 0, 4), state(1))
    other.write(1, 1, 0, state(2))
    array = zarr.open_array(tmp_path / "out.zarr/ddgm_dist/generations/problem/1", mode="r")
    assert array.shape == (3, 2, 8, 20)


def test_of_two_at_the_same_moment_the_newer_commit_stays(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later writer has looked before the newer record was there."""
    older = Generation(1, checkpoints.write(1, 0, 0, state(1)))
    newer = Generation(2, checkpoints.write(2, 0, 0, state(2)))
    other = Checkpoints(tmp_path / "out.zarr", LAYOUT, "problem")
    read = json_files.get_with_etag

    def interrupted(path: Any) -> Any:
        found = read(path)
        monkeypatch.setattr(json_files, "get_with_etag", read)
        other.commit("unit", newer)
        return found

    monkeypatch.setattr(json_files, "get_with_etag", interrupted)
    checkpoints.commit("unit", older)
    assert [g.iteration for g in checkpoints.generations("unit")] == [2]


def test_a_commit_whose_answer_is_lost_still_drops_what_it_replaces(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has written, and says to the request that is repeated that it has not."""
    for n in (1, 2):
        checkpoints.commit("unit", Generation(n, checkpoints.write(n, 0, 0, state(n))))
    write = json_files.compare_and_swap

    def unheard(*asked: Any) -> bool:
        write(*asked)
        return False

    monkeypatch.setattr(json_files, "compare_and_swap", unheard)
    dropped = checkpoints.commit("unit", Generation(3, checkpoints.write(3, 0, 0, state(3))))
    assert [g.iteration for g in dropped] == [1]
    assert [g.iteration for g in checkpoints.generations("unit")] == [3, 2]
    assert not any(name.startswith("1/") for name in chunks(tmp_path))
