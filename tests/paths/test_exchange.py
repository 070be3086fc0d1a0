"""A folder takes the place of another one; what was there is never lost on the way."""

from pathlib import Path

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.paths import exchange
from ddgm_dist.paths.exchange import (
    beside,
    bring_back,
    delete_aside,
    put_in_place,
    refuse_in_the_way,
    set_aside,
)
from ddgm_dist.paths.locate import locate


def folder(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(content)
    return path


def content(path: Path) -> str:
    return (path / "file").read_text()


@pytest.fixture(params=["one step", "two renames", "no such call"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":  # the file system cannot
        monkeypatch.setattr(exchange, "_exchange", lambda a, b: False)
    if request.param == "no such call":  # the system has no such call
        monkeypatch.setattr(exchange, "_renameat2", lambda: None)
    return str(request.param)


@pytest.mark.usefixtures("system")
def test_the_new_folder_takes_the_place_and_the_former_one_its_name(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", "old")
    new = folder(beside(place, "new-1"), "new")
    put_in_place(new, place)
    assert (content(place), content(new)) == ("new", "old")
    assert not set_aside(place).exists()


def test_the_system_is_asked_to_do_it_in_one_step(tmp_path: Path) -> None:
    """Else the tests of one step would be those of two renames."""
    a, b = folder(tmp_path / "a", "1"), folder(tmp_path / "b", "2")
    if not exchange._exchange(a, b):
        pytest.skip("this file system cannot exchange two names")
    assert (content(a), content(b)) == ("2", "1")


def put_aside(place: Path, text: str) -> None:
    """As a process leaves it that was killed between two renames."""
    folder(set_aside(place), text)
    (set_aside(place) / exchange._MARK).touch()


def test_what_was_put_aside_comes_back_to_whoever_looks(tmp_path: Path) -> None:
    place = tmp_path / "a"
    put_aside(place, "old")
    locate(place, "out")
    assert content(place) == "old"
    assert [path.name for path in place.iterdir()] == ["file"]
    put_aside(place, "older")
    bring_back(place)  # its place is taken
    assert content(place) == "old"
    delete_aside(place)
    assert not set_aside(place).exists()


def test_a_folder_of_that_name_which_is_somebody_else_s_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "a"
    mine = folder(set_aside(place), "mine")
    locate(place, "out")
    assert not place.exists()
    folder(place, "old")
    delete_aside(place)
    with pytest.raises(InputError, match=r"\.a\.old beside it is in the way"):
        refuse_in_the_way(place)
    assert content(mine) == "mine"


@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt])
def test_a_failed_second_rename_returns_the_former_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(exchange, "_exchange", lambda a, b: False)
    place = folder(tmp_path / "a", "old")
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if to == place and self != set_aside(place):
            raise error("not allowed")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(error):
        put_in_place(folder(beside(place, "new-1"), "new"), place)
    assert content(place) == "old"
    assert [path.name for path in place.iterdir()] == ["file"]
