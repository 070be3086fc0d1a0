"""Scores of a volume against a reference, on a region away from the edges.

Both are read block by block, in parallel, so neither need fit into memory.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.evaluation.blockwise import (
    FileVolume,
    Pair,
    Readable,
    measure_moments,
    measure_similarity,
)
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.ray_engine.parallel_map import SchedulerName, open_scheduler
from ddgm_dist.readers.arrays.dask_arrays import DaskVolume, is_dask_array
from ddgm_dist.readers.base import ArrayVolume, VolumeSource
from ddgm_dist.records.result import open_result_at
from ddgm_dist.records.run_record import RunRecord

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Scores", "evaluate"]

# The width is divided by this to get the columns trimmed off each side where the reach is unknown.
_TRIM = 8


@dataclass(frozen=True)
class Scores:
    """Differences of a volume from a reference.

    Attributes
    ----------
    mse
        Mean squared difference over the region.
    nmse
        ``mse`` as a fraction of the reference's variance over the region.
    psnr
        ``10 log10(range^2 / mse)`` in dB with the reference's range (largest minus smallest value)
        over the region; infinite for equal volumes.
    ssim
        Structural similarity of the region's (z, x) slices, mean over rows, with the same range. The
        window is a Gaussian of sigma 1.5 (Wang et al. 2004, IEEE Trans. Image Process. 13, 600).
        None where the region is smaller than the window of 11 voxels in z or x.
    region
        Name of the region, and the source of its extent.
    box
        The region in voxels of the volume, ``z0:z1,y0:y1,x0:x1``.
    voxels
        Number of voxels in it.
    """

    mse: float
    nmse: float
    psnr: float
    ssim: float | None
    region: str
    box: str
    voxels: int

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON values; an infinite PSNR becomes None."""
        return asdict(self) | ({} if math.isfinite(self.psnr) else {"psnr": None})


def evaluate(
    volume: str | Path | VolumeSource | NDArray[Any] | da.Array,
    reference: str | Path | VolumeSource | NDArray[Any] | da.Array,
    *,
    inner: str | Box = "inner",
    rows: slice | None = None,
    scheduler: SchedulerName = "threads",
    address: str | None = None,
) -> Scores:
    """Compare a volume with a reference over a region.

    A task holds a few million voxels at a time, whatever the shapes. The scores do not depend, to the
    bit, on where tasks run or how many there are.

    Parameters
    ----------
    volume
        Volume ``(z, y, x)``: a source, an array of numpy or dask, or a path or URL. The latter is
        anything that `ddgm_dist.readers.volumes.open_volume` reads, such as a finished result.
    reference
        As ``volume``, of the same extent in z and y. It may be wider in x by an even number: then its
        central part is taken, as `simulate` records it.
    inner
        ``inner``: all z and y, and x without what rays from outside the field reach on each side.
        That reach is taken from the record of the run beside the volume; where there is none, an
        eighth of the width is trimmed. ``all``: the whole volume. Or a box in voxels of the
        volume, as a `Box` or ``z0:z1,y0:y1,x0:x1`` (either end may be left out).
    rows
        Rows of the reference that the volume covers, such as the ``rows`` of `simulate`. They must be
        given where the reference has more rows than the volume.
    scheduler
        Place of the tasks: ``threads`` of this process, one after the other (``sync``), or ``ray``.
        On Ray, paths must be reachable from all nodes, and arrays are sent to them.
    address
        Address of a Ray cluster. None uses the Ray this process is connected to, or starts one on
        this machine for the time of the call.

    Returns
    -------
    Scores
        Figures of the region.

    Raises
    ------
    InputError
        A path cannot be opened. The shapes do not go together. The region is empty, not within the
        volume or not understood. It holds NaN or infinite voxels, or the reference is constant there.
    StorageError
        The volume is the result of a run that has not finished, or cannot be read.
    """
    ours, record = _open(volume, "volume")
    theirs, _ = _open(reference, "reference")
    offset = _offset(ours.shape, theirs.shape, rows)
    box, region = _region(inner, ours.shape, record)
    pair = Pair(ours, theirs, box, offset)
    with open_scheduler(scheduler, address) as run:
        found = measure_moments(pair, run)
        if found.span == 0:
            raise InputError(
                "reference", "a constant", f"over {_text(box)} it has no structure to compare with"
            )
        ssim = measure_similarity(pair, found.span, run)
    return Scores(
        mse=found.mse,
        nmse=found.mse / found.variance,
        psnr=10 * math.log10(found.span**2 / found.mse) if found.mse > 0 else math.inf,
        ssim=ssim,
        region=region,
        box=_text(box),
        voxels=box.size,
    )


def _open(
    volume: str | Path | VolumeSource | NDArray[Any] | da.Array, argument: str
) -> tuple[Readable, RunRecord | None]:
    """A volume for reading, and the record of the run that made it, where there is one."""
    if isinstance(volume, np.ndarray):
        return ArrayVolume(volume, argument), None
    if is_dask_array(volume):
        # The blocks are the parallel part.
        return DaskVolume(volume, argument, scheduler="sync"), None
    if not isinstance(volume, str | Path):
        return volume, None
    try:
        place = locate(volume, argument)
        record = _record_of(place)
        return FileVolume(place) if record is None else open_result_at(place), record
    except InputError as error:  # readers do not know which of the two it is
        raise InputError(argument, error.value, error.why, error.hint) from error


def _record_of(place: Place) -> RunRecord | None:
    """The record of a run beside a volume; None where there is none."""
    if isinstance(place, Path) and not place.is_dir():
        return None
    record = RunRecord(place)
    return None if record.read_state() is None else record


def _offset(ours: Triple, theirs: Triple, rows: slice | None) -> Triple:
    """Position of the volume's first voxel in the reference, ``(z, y, x)``."""
    spare = theirs[2] - ours[2]
    both = f"while the volume's (z, y, x) is {ours}"
    if theirs[0] != ours[0]:
        raise InputError(
            "reference",
            f"shape {theirs}",
            f"is not as thick as the volume: z is {theirs[0]}, {both}",
            "cut the thicker one to the z of the other",
        )
    first = _first_row(ours, theirs, rows, both)
    if spare < 0:
        raise InputError(
            "reference",
            f"shape {theirs}",
            f"is narrower than the volume: x is {theirs[2]}, {both}",
            "give one that is as wide, or wider",
        )
    if spare % 2:
        raise InputError(
            "reference",
            f"shape {theirs}",
            f"is wider than the volume's {ours[2]} columns by an odd number, so that its centre "
            "lies half a voxel off",
            "crop it by one column",
        )
    return (0, first, spare // 2)


def _first_row(ours: Triple, theirs: Triple, rows: slice | None, both: str) -> int:
    """Row of the reference that is the volume's first."""
    if rows is None:
        if theirs[1] == ours[1]:
            return 0
        fewer = theirs[1] < ours[1]
        raise InputError(
            "reference",
            f"shape {theirs}",
            f"has {'fewer' if fewer else 'more'} rows than the volume: y is {theirs[1]}, {both}",
            "cut the volume to the rows of the reference"
            if fewer
            else "say which of its rows the volume's are with rows (--rows A:B), as given to simulate",
        )
    shown = f"{'' if rows.start is None else rows.start}:{'' if rows.stop is None else rows.stop}"
    start, stop = rows.start or 0, theirs[1] if rows.stop is None else rows.stop
    if rows.step not in (None, 1) or not 0 <= start < stop <= theirs[1]:
        raise InputError("rows", shown, f"must lie within the reference's {theirs[1]} rows, step 1")
    if stop - start != ours[1]:
        raise InputError(
            "rows", shown, f"are {stop - start} rows of the reference, {both}", "name as many rows"
        )
    return int(start)


def _region(inner: str | Box, shape: Triple, record: RunRecord | None) -> tuple[Box, str]:
    """The box to compare over, and its name."""
    depth, rows, width = shape
    if isinstance(inner, Box):
        return _checked(inner, shape, _text(inner)), "box"
    if inner == "all":
        return Box((0, 0, 0), shape), "all"
    if inner != "inner":
        return _checked(_parse(inner, shape), shape, inner), "box"
    reach = None if record is None else _reach(record)
    trim = width // _TRIM if reach is None else reach
    source = "an eighth of the width" if reach is None else "the reach of the run's rays"
    if 2 * trim >= width:
        raise InputError(
            "inner",
            "inner",
            f"trimming {trim} columns ({source}) off each side leaves nothing of {width}",
            "evaluate over 'all', or give a box z0:z1,y0:y1,x0:x1",
        )
    box = Box((0, 0, trim), (depth, rows, width - trim))
    return box, f"inner: x trimmed by {trim} on each side ({source})"


def _reach(record: RunRecord) -> int | None:
    """Columns that rays from outside the field reach into; None if the record does not say."""
    problem = record.read_json("problem")
    try:
        found: dict[str, Any] = problem["geometry"]  # type: ignore[index]
        return Geometry(tuple(found["angles_deg"]), int(found["thickness"]), rows=1, field=1).reach
    except (KeyError, TypeError):
        return None


def _parse(text: str, shape: Triple) -> Box:
    bounds = re.fullmatch(",".join([r"(\d*):(\d*)"] * 3), text.replace(" ", ""))
    if bounds is None:
        raise InputError(
            "inner", text, "is not a region", "write inner, all or a box z0:z1,y0:y1,x0:x1"
        )
    z0, y0, x0 = (int(end or 0) for end in bounds.groups()[0::2])
    z1, y1, x1 = (int(end or n) for end, n in zip(bounds.groups()[1::2], shape, strict=True))
    if z1 <= z0 or y1 <= y0 or x1 <= x0:
        raise InputError("inner", text, "is empty: each stop must be larger than its start")
    return Box((z0, y0, x0), (z1, y1, x1))


def _checked(box: Box, shape: Triple, text: str) -> Box:
    if box.size == 0:
        raise InputError("inner", text, "is empty")
    if not Box((0, 0, 0), shape).contains(box):
        raise InputError("inner", text, f"must lie within the volume of shape (z, y, x) = {shape}")
    return box


def _text(box: Box) -> str:
    return ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
