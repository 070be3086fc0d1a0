"""AreTomo's alignments (``.aln``), of versions 1, 2 and 3.

How images are numbered depends on the version, and is recognized by `numbering`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.readers.aretomo.numbering import stored_indices
from ddgm_dist.readers.text import check_whole, number, read_text, whole_number
from ddgm_dist.views.affine import Affine

__all__ = ["Aln", "AlnView", "DarkFrame", "read_aln"]

_COLUMNS = ["SEC", "ROT", "GMAG", "TX", "TY", "SMEAN", "SFIT", "SCALE", "BASE", "TILT"]
_LOCAL_COLUMNS = 7
_UNIT = 1e-4
_HINT = "give the .aln file as AreTomo wrote it"
_ENTRY = re.compile(r"#\s*(\w+)\s*=\s*(.*?)\s*")


@dataclass(frozen=True)
class DarkFrame:
    """A view that AreTomo left out.

    Attributes
    ----------
    stored_index
        Index of the view in the stack, from 0.
    frame, section
        The two numbers in the file: its place by tilt angle from 0, and its number in the stack.
    tilt_deg
        Its tilt angle.
    """

    stored_index: int
    frame: int
    section: int
    tilt_deg: float


@dataclass(frozen=True)
class AlnView:
    """Alignment of a view.

    Attributes
    ----------
    stored_index
        Index of the view in the stack, from 0.
    section
        Its number in the file.
    rotation_deg
        Direction of the tilt axis from the vertical, counter-clockwise.
    magnification
        GMAG, which is 1.
    tx, ty
        Where the image's centre was found, pixels from the middle of the stack's image.
    tilt_deg
        Tilt angle, with AlphaOffset already added.
    """

    stored_index: int
    section: int
    rotation_deg: float
    magnification: float
    tx: float
    ty: float
    tilt_deg: float

    def transform(self) -> Affine:
        """Return the transform of an ``.xf`` file, as AreTomo's option OutImod writes it.

        The image is shifted by ``(-TX, -TY)`` and then turned, so that its tilt axis is vertical.
        """
        return Affine(dx=-self.tx, dy=-self.ty).then(Affine.turn_axis(self.rotation_deg))


@dataclass(frozen=True)
class Aln:
    """A global alignment.

    Attributes
    ----------
    path
        The file.
    raw_size
        Columns, rows and views of the stack; None if the file does not say.
    angle_offset_deg, beta_offset_deg
        AlphaOffset, which the tilt angles of ``views`` contain, and BetaOffset; 0 if not given.
    thickness
        Estimated thickness of the specimen, pixels of the stack; None if not given.
    dark_frames
        Views that were left out.
    views
        Aligned views, in the order of the file.
    local
        Whether a local alignment follows, which is not read.
    """

    path: Path
    raw_size: tuple[int, int, int] | None
    angle_offset_deg: float
    beta_offset_deg: float
    thickness: int | None
    dark_frames: tuple[DarkFrame, ...]
    views: tuple[AlnView, ...]
    local: bool

    def by_stack(self, count: int) -> tuple[AlnView | None, ...]:
        """Views in stored order; None for dark frames.

        Parameters
        ----------
        count
            Images in the stack.

        Raises
        ------
        InputError
            The alignment is of a stack of another number of images.
        """
        total = len(self.views) + len(self.dark_frames)
        if total != count:
            raise InputError(
                "aln",
                str(self.path),
                f"aligns a stack of {total} images, dark ones included; this one has {count}",
                "give the .aln file of this stack",
            )
        views = {view.stored_index: view for view in self.views}
        return tuple(views.get(i) for i in range(count))


def read_aln(path: Path) -> Aln:
    """Read an alignment.

    Raises
    ------
    InputError
        The file is missing, no text, or cut short; rows and dark frames are not all views of the stack,
        each once; a magnification is not 1; or a line is not as AreTomo writes it.
    """
    text = read_text(path, "aln", hint=_HINT)
    parts = _Parts(text, path)
    size = parts.raw_size()
    views, dark = parts.views, parts.dark
    count = len(views) + len(dark) if size is None else size[2]
    if count != len(views) + len(dark):
        raise InputError(
            "aln",
            str(path),
            f"has {len(views)} views and {len(dark)} dark frames of a stack of {count}: it is cut "
            "short, or was changed",
            _HINT,
        )
    stored, dark_stored = stored_indices(views, dark, path)
    patches = parts.patches()
    if patches and len(parts.local) != patches * len(views):
        raise InputError(
            "aln",
            str(path),
            f"has {len(parts.local)} rows of local alignment, not {patches} for each of "
            f"{len(views)} views: it is cut short",
            _HINT,
        )
    return Aln(
        path=path,
        raw_size=size,
        angle_offset_deg=parts.number("AlphaOffset"),
        beta_offset_deg=parts.number("BetaOffset"),
        thickness=parts.thickness(),
        dark_frames=tuple(
            DarkFrame(index, int(row[0]), int(row[1]), row[2])
            for index, row in zip(dark_stored, dark, strict=True)
        ),
        views=tuple(
            AlnView(index, int(row[0]), row[1], row[2], row[3], row[4], row[9])
            for index, row in zip(stored, views, strict=True)
        ),
        local=bool(patches or parts.local),
    )


class _Parts:
    """Entries, rows and dark frames of a file, as numbers."""

    def __init__(self, text: str, path: Path) -> None:
        self._path = path
        self._entries: dict[str, tuple[str, int]] = {}
        self.dark: list[tuple[float, ...]] = []
        self.views: list[tuple[float, ...]] = []
        self.local: list[tuple[float, ...]] = []
        titles = False
        table, words = self.views, list[list[str]]()
        for i, line in enumerate(text.split("\n"), 1):
            row = line.split()
            if not row or (i == 1 and line.isalpha()):  # one version of AreTomo 3 greets its reader
                continue
            if line.lstrip().startswith("#"):
                if row[1:] == _COLUMNS:
                    titles = True
                elif row[1:] == ["Local", "Alignment"]:
                    table, words = self.local, []
                else:
                    self._entry(i, line.strip())
                continue
            if not titles:
                raise self._error(i, "comes before the names of the columns")
            columns = _LOCAL_COLUMNS if table is self.local else len(_COLUMNS)
            table.append(self._row(i, row, columns, 2 if table is self.local else 1))
            words.append(row)
        if not self.views:
            raise InputError("aln", str(path), "holds no aligned views", _HINT)
        if words:
            check_whole(text, words, "aln", path)
        self._check_magnification()

    def raw_size(self) -> tuple[int, int, int] | None:
        if "RawSize" not in self._entries:
            return None
        value, line = self._entries["RawSize"]
        width, height, views = (int(n) for n in self._row(line, value.split(), 3, 3))
        if min(width, height, views) < 1:
            raise self._error(line, "gives a size that is not positive")
        return width, height, views

    def patches(self) -> int:
        return int(self.number("NumPatches"))

    def thickness(self) -> int | None:
        return int(self.number("Thickness")) if "Thickness" in self._entries else None

    def number(self, name: str) -> float:
        value, line = self._entries.get(name, ("0", 0))
        return self._row(line, value.split(), 1, int(name == "NumPatches"))[0]

    def _entry(self, line: int, text: str) -> None:
        found = _ENTRY.fullmatch(text)
        if not found:  # the title, or a comment that somebody added
            return
        if found.group(1) == "DarkFrame":
            self.dark.append(self._row(line, found.group(2).split(), 3, 2))
        elif self._entries.setdefault(found.group(1), (found.group(2), line))[0] != found.group(2):
            raise self._error(line, f"gives {found.group(1)} another value than a line above")

    def _row(self, line: int, words: Sequence[str], columns: int, whole: int) -> tuple[float, ...]:
        """Numbers of a row, the first ``whole`` of which are whole numbers."""
        if len(words) != columns:
            raise self._error(line, f"holds {len(words)} numbers, {columns} are wanted")
        try:
            return tuple(
                whole_number(word) if i < whole else number(word) for i, word in enumerate(words)
            )
        except ValueError as error:
            raise self._error(line, str(error)) from error

    def _check_magnification(self) -> None:
        for row in self.views:
            if abs(row[2] - 1) > _UNIT:
                raise InputError(
                    "aln",
                    str(self._path),
                    f"section {row[0]:g} has magnification {row[2]:g}; AreTomo writes 1, and how "
                    "another one is meant is not known",
                    "apply the magnification to the stack, and write 1",
                )

    def _error(self, line: int, why: str) -> InputError:
        return InputError("aln", str(self._path), f"line {line} {why}", _HINT)
