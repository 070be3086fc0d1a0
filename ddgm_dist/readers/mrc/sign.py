"""The sign of the integers of an MRC file, from header and pixels.

Programs mark signed bytes in three ways. The header's statistics decide between readings, where they
fit only one. Otherwise the file is refused: pixels that are wrapped look like data.
"""

from __future__ import annotations

import logging

from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.header import MrcHeader, Statistics
from ddgm_dist.readers.mrc.statistics import agrees, any_at_least, as_dtype
from ddgm_dist.readers.stored_array import StoredArray

__all__ = ["byte_reading", "word_reading"]

_RECOUNT = "let IMOD's alterheader -mmm compute the header's statistics anew"

_log = logging.getLogger("ddgm_dist")


def byte_reading(header: MrcHeader, stored: StoredArray, name: str) -> tuple[str, int]:
    """Decide whether the bytes of mode 0 are signed, and what to add to them.

    MRC2014 has them signed, older files unsigned. IMOD says which, and what it marks as signed are
    unsigned values less 128, to which it adds 128 on reading. Without its mark the statistics
    decide.

    Parameters
    ----------
    header
        Header of the file.
    stored
        The bytes.
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
        if signed and any_at_least(stored, 128):
            # As signed bytes some are below the smallest value, as unsigned ones above the largest.
            raise _contradiction(name, "bytes that are below 0 or above 127", stated)
        return "u1", 0
    if not signed and any_at_least(stored, 128):
        if not header.version:
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


def word_reading(header: MrcHeader, stored: StoredArray, name: str) -> str:
    """The dtype of 16-bit integers; the statistics may show that they have the other sign.

    Parameters and errors are those of `byte_reading`.
    """
    own, stated = header.dtype.kind, header.statistics
    signed = stated is not None and stated.within(-(2**15), 2**15 - 1)
    unsigned = stated is not None and stated.within(0, 2**16 - 1)
    if stated is None or signed in (unsigned, own == "i"):
        return f"{own}2"
    # Below 2**15 both readings are the same.
    if not any_at_least(stored, 2**15):
        return f"{own}2"
    other = "u" if own == "i" else "i"
    if not agrees(as_dtype(stored, f"{other}2"), stated):
        mode = 1 if own == "i" else 6
        raise _contradiction(name, f"16-bit integers of mode {mode}", stated)
    what = "unsigned" if other == "u" else "signed"
    _log.warning("%s: its 16-bit integers are %s, as its statistics show; read so", name, what)
    return f"{other}2"


def _contradiction(name: str, what: str, stated: Statistics | None) -> InputError:
    values = "" if stated is None else f"from {stated.low:g} to {stated.high:g}"
    return InputError(
        "source",
        name,
        f"holds {what}, but its header states values {values}",
        f"{_RECOUNT}, or write it anew",
    )
