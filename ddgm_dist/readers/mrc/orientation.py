"""The axes of an MRC file in space, by its header."""

from __future__ import annotations

import logging

from ddgm_dist.core.box import Triple
from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.header import MrcHeader

__all__ = ["check_pixels", "check_views", "order", "rows_from_top", "warn_of_reconstruction"]

_log = logging.getLogger("ddgm_dist")

_TOLERANCE = 0.01  # of a pixel's size along x and y
_RECONSTRUCTED = "tilt: tomographic reconstruction"
# Labels of IMOD's programs that turn a reconstruction.
_TURNED = ("flipyz", "rotx", "rotatevol", "trimvol", "flipxy", "flipz")


def order(header: MrcHeader) -> Triple:
    """The axes that transpose ``(section, row, column)`` to ``(z, y, x)``."""
    stored = header.axes[::-1]
    return (stored.index(3), stored.index(2), stored.index(1))


def rows_from_top(header: MrcHeader) -> bool:
    """Return whether the first row is the upper one of the image, against the rule of MRC.

    So it is in the first files of FEI with an extended header of its own. IMOD turns these upside
    down as it reads them, unless it has written them itself.
    """
    ours = header.imod_signed is None
    return ours and header.extended_type[:3] == "FEI" and header.version == 20140


def check_views(header: MrcHeader, name: str) -> None:
    """Check that the sections can be views of a tilt series.

    Raises
    ------
    InputError
        The header says that sections do not follow each other along z.
    """
    columns, rows, sections = header.axes
    if header.axes != (1, 2, 3):
        raise InputError(
            "source",
            name,
            f"its header says that columns, rows and sections run along axes {columns}, {rows} and "
            f"{sections} (MAPC, MAPR, MAPS): that is a volume, or its sections are no views",
            "write it with axes 1, 2, 3: views as sections, the images' x along columns",
        )
    if any(_RECONSTRUCTED in label.lower() for label in header.labels):
        _log.warning(
            "%s: a label says that it is a reconstruction by IMOD's tilt, not a tilt series", name
        )


def check_pixels(header: MrcHeader, name: str, *, refuse: bool) -> float | None:
    """Size of a pixel, nanometres; None when unknown.

    Raises
    ------
    InputError
        Pixels are not square, and that is to be refused.
    """
    x, y = header.pixel_nm
    if refuse and x == y == 0.1:
        _log.warning(
            "%s: its header states pixels of exactly 1 angstrom, as programs do that know no size: "
            "give the size if it is another",
            name,
        )
    if x is None or y is None or abs(x - y) <= _TOLERANCE * x:
        return x
    what = f"its pixels are not square: {x:.4g} nm along x, {y:.4g} nm along y"
    if refuse:
        raise InputError(
            "source",
            name,
            f"{what}, and a reconstruction has one size of pixel",
            "correct the header, with IMOD's alterheader -del, or resample the images",
        )
    _log.warning("%s: %s; all is computed as if both were %.4g nm", name, what, x)
    return x


def warn_of_reconstruction(header: MrcHeader, name: str) -> None:
    """Warn of a volume whose labels say that its sections are slices along y.

    IMOD's ``tilt`` writes one section per row of the images, and ``trimvol`` turns it later.
    """
    labels = [label.lower() for label in header.labels]
    made = [i for i, label in enumerate(labels) if _RECONSTRUCTED in label]
    if not made or any(turn in label for label in labels[made[-1] :] for turn in _TURNED):
        return
    _log.warning(
        "%s: its labels say that IMOD's tilt has written it and that nothing has turned it since: "
        "its axes are (y, z, x), but are read as (z, y, x); turn it with trimvol -rx",
        name,
    )
