"""Arguments of an ingest that name files: those must be on a disk, or beside the source."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ddgm_dist.acquisition.options import Angles, Counts
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import place_of

__all__ = ["alignment_file", "counts_option", "file_or_numbers", "number_or_images"]


def file_or_numbers(angles: Angles | None) -> Angles | None:
    """Angles, whose file must be on a disk."""
    return _file(angles, "angles") if isinstance(angles, str | Path) else angles


def alignment_file(given: str | Path | None, source: str | Path) -> Path | Literal["none"] | None:
    """The file of an alignment; one that is not here may lie beside the source."""
    if given is None or str(given) == "none":
        return None if given is None else "none"
    beside = Path(source).parent / given
    if not Path(given).is_file() and beside.is_file():
        return beside
    return _file(given, "xf")


def counts_option(given: Counts | str | None) -> Counts | None:
    """A number, a word, or a file that must be on a disk."""
    if given == "auto":
        return "auto"
    if given == "none":
        return "none"
    if given is None or isinstance(given, int | float):
        return None if given is None else float(given)
    return _file(given, "counts")


def number_or_images(given: float | str | Path | None, argument: str) -> float | Path | None:
    """A number; or a file, a Zarr array or a folder with images, which must be on a disk.

    Raises
    ------
    InputError
        It is in an object store, or it does not exist.
    """
    if given is None or isinstance(given, int | float):
        return None if given is None else float(given)
    place = place_of(given, argument)
    return place if isinstance(place, Path) and place.is_dir() else _file(given, argument)


def _file(path: str | Path, argument: str) -> Path:
    """A file that must be on a disk.

    Raises
    ------
    InputError
        It is in an object store, or it does not exist.
    """
    place = place_of(path, argument)
    if not isinstance(place, Path):
        raise InputError(
            argument,
            str(path),
            "is in an object store, where only the source may be",
            "copy it here",
        )
    if not place.is_file():
        raise InputError(argument, str(path), "is no file that exists")
    return place
