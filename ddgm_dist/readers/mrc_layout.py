"""The first pixel of an MRC file and the sign of its integers, from header and file.

Programs leave out or misstate the size of the extended header, and mark signed bytes in three
ways. The header's statistics decide between readings, where they fit only one. Otherwise the file is
refused: pixels that are shifted or wrapped look like data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc_header import HEADER_BYTES, MrcHeader, Statistics

__all__ = ["byte_reading", "first_pixel", "warn_of_strange_values", "word_reading"]

_PIECE = 2**24  # values looked at in one go
_SAMPLE = 2**17  # values of a section that are looked at
_RECORDS = (80, 256, 888)  # bytes of which extended headers are made: symmetry, IMOD's, FEI's
_EXTENDED_TYPES = ("AGAR", "CCP4", "FEI1", "FEI2", "HDF5", "MRCO", "SERI")
_RECOUNT = "let IMOD's alterheader -mmm compute the header's statistics anew"

_log = logging.getLogger("ddgm_dist")


def first_pixel(path: Path, header: MrcHeader, size: int) -> int:
    """The byte at which the pixels begin.

    The size of the extended header is what the header says, if the file has just as many bytes.
    If not, it is what fits the statistics.

    Parameters
    ----------
    path
        Path of the file.
    header
        Header of the file.
    size
        Bytes in the file.

    Raises
    ------
    InputError
        The file is truncated, or the start of its pixels stays open.
    """
    room, stated, name = size - HEADER_BYTES - header.data_bytes, header.extended, str(path)
    if room == stated >= 0:
        return HEADER_BYTES + stated
    if room < 0 or 0 < room < stated:
        raise InputError(
            "source",
            name,
            f"is no MRC file, or shorter than its header says: {header.data_bytes} bytes of pixels "
            f"{header.shape} and {max(0, stated)} of extended header do not fit into the "
            f"{size - HEADER_BYTES} that follow the header",
            "copy it again",
        )
    after = min(room, max(0, stated))
    fits = {n for n in (after, room) if _fit(path, header, HEADER_BYTES + n)}
    # A wrong number and bytes after the pixels might fit together by chance. Sizes that are too small
    # by one leave at least a face of the volume, in pixels, after those that are read.
    face = header.data_bytes // max(header.shape)
    whole = stated <= 0 and any(room % n == 0 for n in _RECORDS)
    ends = HEADER_BYTES + after + header.data_bytes
    few = room - after < face
    if fits == {after}:
        after_is_meant = few or _is_padding(path, ends)
    else:
        after_is_meant = (
            few and not _decides(header.statistics) and _is_a_line_end(path, ends, size)
        )
    if fits == {room} and (whole or room == 0):
        chosen = room
    elif after_is_meant:
        chosen = after
    elif room in fits and whole and header.extended_type in _EXTENDED_TYPES:
        chosen = room
    else:
        raise InputError(
            "source",
            name,
            f"its header states {stated} bytes of extended header (NSYMBT), but the file has {room}"
            " bytes more than header and pixels take, and the statistics in the header do not "
            "tell where the pixels begin",
            "correct NSYMBT, cut off what follows the pixels, or copy a file again that was cut short",
        )
    _log.warning(
        "%s: its header states %d bytes of extended header and the file has room for %d: pixels "
        "are read from byte %d on, by %s",
        *(name, stated, room, HEADER_BYTES + chosen),
        "its statistics" if fits else "what follows them or the type of that header",
    )
    return HEADER_BYTES + chosen


def byte_reading(header: MrcHeader, stored: NDArray[Any], name: str) -> tuple[str, int]:
    """Decide whether the bytes of mode 0 are signed, and what to add to them.

    MRC2014 has them signed, older files unsigned. IMOD says which, and what it marks as signed are
    unsigned values less 128, to which it adds 128 on reading. Without its mark the statistics
    decide.

    Parameters
    ----------
    header
        Header of the file.
    stored
        The bytes, of any shape.
    name
        Name for messages.

    Returns
    -------
    tuple
        The dtype to read, and what to add to its values.

    Raises
    ------
    InputError
        The header contradicts itself or the bytes, or leaves their sign open.
    """
    stated = header.statistics
    signed = stated is not None and stated.within(-128, 127)
    unsigned = stated is not None and stated.within(0, 255)
    if header.imod_signed is not None:
        if signed not in (unsigned, header.imod_signed):
            what = "signed" if header.imod_signed else "unsigned"
            raise _contradiction(name, f"bytes that it marks as {what}", stated)
        if header.imod_signed:
            _log.warning("%s: IMOD stored its bytes less 128: 128 is added", name)
            return "i1", 128
        return "u1", 0
    if unsigned:
        if signed and _any_at_least(stored, 128):
            # As signed bytes some are below the smallest value, as unsigned ones above the largest.
            raise _contradiction(name, "bytes that are below 0 or above 127", stated)
        return "u1", 0
    if not signed and _any_at_least(stored, 128):
        if not header.standard:
            raise InputError(
                "source",
                name,
                "holds bytes, and its header does not tell whether they are signed",
                f"{_RECOUNT}, or write it as mode 1 or 2",
            )
        _log.warning(
            "%s: its header leaves open whether its bytes are signed; read as signed, as MRC2014 "
            "has them",
            name,
        )
    elif not signed:
        return "u1", 0
    else:
        _log.warning(
            "%s: its bytes are signed. If they are line integrals less 128, as IMOD stores them, "
            "give --dark -128",
            name,
        )
    return "i1", 0


def word_reading(header: MrcHeader, stored: NDArray[Any], name: str) -> str:
    """The dtype of 16-bit integers; the statistics may show that they have the other sign.

    Parameters and errors are those of `byte_reading`.
    """
    own, stated = header.dtype.kind, header.statistics
    signed = stated is not None and stated.within(-(2**15), 2**15 - 1)
    unsigned = stated is not None and stated.within(0, 2**16 - 1)
    if stated is None or signed in (unsigned, own == "i"):
        return f"{own}2"
    # Below 2**15 both readings are the same.
    if not _any_at_least(stored.view(f"{stored.dtype.byteorder}u2"), 2**15):
        return f"{own}2"
    other = "u" if own == "i" else "i"
    if not _agrees(stored.view(f"{stored.dtype.byteorder}{other}2"), stated):
        mode = 1 if own == "i" else 6
        raise _contradiction(name, f"16-bit integers of mode {mode}", stated)
    what = "unsigned" if other == "u" else "signed"
    _log.warning("%s: its 16-bit integers are %s, as its statistics show; read so", name, what)
    return f"{other}2"


def warn_of_strange_values(header: MrcHeader, stored: NDArray[Any], name: str) -> None:
    """Warn of values outside of what the header states, in the first, middle and last section.

    They show a header that was copied from another file, or pixels that are not what it says.

    Parameters
    ----------
    header
        Header of the file.
    stored
        ``(section, row, column)`` in stored units.
    name
        Name for messages.
    """
    stated = header.statistics
    if stated is None:
        return
    sections = {0, len(stored) // 2, len(stored) - 1}
    rows = max(1, _SAMPLE // stored.shape[2])
    seen = np.stack([stored[k, :rows] for k in sorted(sections)]).astype(np.float64)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return
    low, high = float(seen.min()), float(seen.max())
    slack = 1e-3 * (stated.high - stated.low) + 1e-6 * abs(stated.high)
    if low < stated.low - slack or high > stated.high + slack:
        _log.warning(
            "%s: holds values from %g to %g, but its header states %g to %g: the header is out of "
            "date, or the pixels are not what it says",
            *(name, low, high, stated.low, stated.high),
        )


def _contradiction(name: str, what: str, stated: Statistics | None) -> InputError:
    values = "" if stated is None else f"from {stated.low:g} to {stated.high:g}"
    return InputError(
        "source",
        name,
        f"holds {what}, but its header states values {values}",
        f"{_RECOUNT}, or write it anew",
    )


def _fit(path: Path, header: MrcHeader, offset: int) -> bool:
    """Return whether pixels from this offset on have the statistics of the header."""
    stated = header.statistics
    if stated is None or not _decides(stated):
        return False
    stored = np.memmap(path, header.dtype, "r", offset, header.shape)
    dtypes = [header.dtype]
    if header.dtype.kind in "iu":
        kind = "u" if header.dtype.kind == "i" else "i"
        dtypes.append(np.dtype(f"{header.dtype.byteorder}{kind}{header.dtype.itemsize}"))
    return any(_agrees(stored.view(dtype), stated) for dtype in dtypes)


def _is_padding(path: Path, start: int) -> bool:
    """Return whether all bytes from ``start`` to the end are the same."""
    with path.open("rb") as file:
        file.seek(start)
        first = file.read(1)
        while part := file.read(_PIECE):
            if part.strip(first):
                return False
    return True


def _decides(stated: Statistics | None) -> bool:
    """Return whether statistics can identify the pixels; the range alone fits many a wrong position."""
    return stated is not None and stated.mean is not None and stated.low < stated.high


def _is_a_line_end(path: Path, start: int, size: int) -> bool:
    """Return whether the rest of a file is a line end, which an editor or a transfer adds."""
    if not 0 < size - start <= 2:
        return False
    with path.open("rb") as file:
        file.seek(start)
        return file.read() in (b"\n", b"\r\n")


def _agrees(stored: NDArray[Any], stated: Statistics) -> bool:
    """Return whether values have these statistics, to the precision in which programs state them."""
    low, high, total = np.inf, -np.inf, 0.0
    with np.errstate(all="ignore"):
        for piece in _pieces(stored):
            values = piece.astype(np.float64)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total += float(values.sum())
    slack = 1e-4 * (stated.high - stated.low)
    means = [] if stated.mean is None else [(total / stored.size, stated.mean)]
    # Not a number is never within the slack.
    return all(abs(a - b) <= slack for a, b in [(low, stated.low), (high, stated.high), *means])


def _any_at_least(stored: NDArray[Any], bound: int) -> bool:
    unsigned = stored.view("u1") if stored.dtype.itemsize == 1 else stored
    return any(bool((piece >= bound).any()) for piece in _pieces(unsigned))


def _pieces(stored: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = stored.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        yield flat[start : start + _PIECE]
