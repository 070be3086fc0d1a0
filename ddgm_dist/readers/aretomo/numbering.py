"""Views of the stack that the numbers in AreTomo's alignments mean.

AreTomo 1 and 2 count sections of the stack from 0, and AreTomo 3 from 1; dark frames keep their numbers.
Early versions of AreTomo 3 count the remaining images only, from 0. No version is written in the file.
So the numbering is recognized by this law: rows and dark frames are all views, each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["stored_indices"]


def stored_indices(
    views: list[tuple[float, ...]], dark: list[tuple[float, ...]], path: Path
) -> tuple[Sequence[int], Sequence[int]]:
    """Indices in the stack, from 0, of aligned views and of dark frames.

    Parameters
    ----------
    views
        Rows of aligned views; a row begins with SEC and ends with the tilt angle.
    dark
        Dark frames: place by tilt angle from 0, number in the stack, tilt angle.

    Raises
    ------
    InputError
        No numbering of any version makes them all views of the stack, each once; or several do.
    """
    count = len(views) + len(dark)
    sections = [int(row[0]) for row in views]
    possible = {
        (tuple(stored), tuple(frames))
        for stored, frames in _readings(sections, [(int(f), int(s)) for f, s, _ in dark], count)
        if sorted([*stored, *frames]) == list(range(count))
    }
    if len(possible) > 1:  # a stack that is sorted by angle is the likelier one
        tilts = [row[-1] for row in (*views, *dark)]
        possible = {
            reading for reading in possible if _is_sorted([*reading[0], *reading[1]], tilts)
        }
    if len(possible) != 1:
        raise InputError(
            "aln",
            str(path),
            f"its sections and dark frames fit no numbering of the {count} views of the stack",
            "align again, or write each view's number in the stack from 1, as AreTomo 3 does",
        )
    return next(iter(possible))


def _is_sorted(stored: list[int], tilts: list[float]) -> bool:
    """True if views that are stored so have rising tilt angles."""
    by_place = [tilt for _, tilt in sorted(zip(stored, tilts, strict=True))]
    return by_place == sorted(by_place)


def _readings(
    sections: list[int], dark: list[tuple[int, int]], count: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Ways to understand the numbers, right or wrong."""
    for base in (0, 1):
        yield [s - base for s in sections], [section - base for _, section in dark]
    # Only the remaining images are numbered, of a stack that is sorted by angle.
    frames = [frame for frame, _ in dark]
    if all(section in (frame, frame + 1) for frame, section in dark):
        kept = [i for i in range(count) if i not in frames]
        for base in (0, 1):
            if all(0 <= s - base < len(kept) for s in sections):
                yield [kept[s - base] for s in sections], frames
