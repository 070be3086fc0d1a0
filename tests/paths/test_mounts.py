"""Where a path lies in its file system, by the table of mounts."""

import os
from pathlib import Path, PurePosixPath

import pytest

from ddgm_dist.paths import mounts
from ddgm_dist.paths.mounts import Spot, spot, spots_below

TABLE = """\
1 0 8:1 / / rw - ext4 /dev/a rw
2 1 8:2 /data/a\\040b {at}/one\\134two rw shared:1 - ext4 /dev/b rw
3 1 8:1 /home {at}/plain rw - ext4 /dev/a rw
4 1 0:4 net:[4026531840] {at}/net rw - nsfs nsfs rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE.format(at=tmp_path))
    monkeypatch.setattr(mounts, "_TABLE", path)
    numbers = {tmp_path / r"one\two": 2, tmp_path / "plain": 3, tmp_path / "net": 4}

    def mount_of(path: Path) -> int:
        return next((numbers[p] for p in (path, *path.parents) if p in numbers), 1)

    monkeypatch.setattr(mounts, "_mount_of", mount_of)
    return tmp_path


def test_a_path_is_found_in_its_file_system_by_the_mount_it_belongs_to(table: Path) -> None:
    assert spot(table / r"one\two/x/y") == Spot("8:2", PurePosixPath("/data/a b/x/y"))
    assert spot(table / "plain") == Spot("8:1", PurePosixPath("/home"))
    assert spot(table / "x") == Spot("8:1", PurePosixPath(table / "x"))
    assert spot(table / "net") == Spot("", PurePosixPath(table / "net"))
    assert spot(table / "plain/x").within(spot(Path("/home")))
    assert not spot(table / r"one\two").within(spot(Path("/")))
    below = spots_below(table)
    assert below == [Spot("8:2", PurePosixPath("/data/a b")), Spot("8:1", PurePosixPath("/home"))]
    assert spots_below(table / "plain") == []


def test_without_a_table_a_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_TABLE", tmp_path / "none")
    assert spot(tmp_path / "a") == Spot("", PurePosixPath(tmp_path / "a"))
    assert spots_below(tmp_path) == []
    monkeypatch.delattr(os, "O_PATH", raising=False)
    assert spot(tmp_path / "a") == Spot("", PurePosixPath(tmp_path / "a"))
