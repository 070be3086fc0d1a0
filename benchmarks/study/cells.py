"""The cells of the study: geometries, levels of noise, and slices of held-back FIB-SEM tissue.

The prior saw z < 345 of the training volume. ``medulla`` begins at its z = 352, thickness along z.
``thick`` and ``deep`` have their thickness along y, in planes of z that the prior has not seen; the
tissue is isotropic. ``cube`` is the validation volume, another piece of tissue. Rows of a cell lie far
apart, so that few rows show much tissue. Each is a slice of its own for the operator and for the
denoiser (plane zx).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.readers.volumes import open_volume

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = Path(os.environ.get("DDGM_DIST_DATA", ROOT.parent / "shared" / "data"))
RESULTS = HERE.parent / "results" / "study"
NOISES = (0.05, 0.3, 1.0)
THICK: dict = {"specimen": "thick", "thickness": 128}
# The inner columns of a field are those whose rays are all measured: 444 fewer at 256 thick.
DEEP: dict = {"specimen": "deep", "thickness": 256, "field": 640}
CUBE: dict = {"specimen": "cube", "field": 200}
# Thickness, number of tilts, and within how many degrees: what the study varies.
GEOMETRIES: dict[str, dict] = {
    "64": {},
    "64, 41 tilts": {"tilts": 41},
    "64, within 45": {"max_tilt": 45.0},
    "64, within 70": {"max_tilt": 70.0},
    "128": THICK,
    "128, 41 tilts": {**THICK, "tilts": 41},
    "128, within 45": {**THICK, "max_tilt": 45.0},
    "128, within 70": {**THICK, "max_tilt": 70.0},
    "64, Poisson": {"poisson": True},
    "64, 21 tilts": {"tilts": 21},
    "64, misaligned": {"shifts": 1.0, "discrepancy": True},
    "64, vacuum beyond": {**CUBE, "vacuum": True, "discrepancy": True},
    "256": DEEP,
}
# Geometries whose tables are shown in full, and in which every line is run.
REFERENCES = ("64", "128")

# Rows that settings are searched on, and that are scored: y of the medulla, 1000 y + z of thick and
# deep, 250 z + y of the cube. None is nearer than 40 voxels to another set's of the same specimen.
# DDGM's defaults were chosen on the slices of choice.py, among them the searched y = 110 and none that
# is scored.
SEARCH_ROWS = {
    "medulla": (110,),
    "thick": (196_360,),
    "deep": (132_360,),
    "cube": (250 * 186 + 125,),
}
SCORE_ROWS = {
    "medulla": (20, 165, 330, 490),
    "thick": (412, 130_412, 260_412, 390_412),
    "deep": (412, 264_412),
    "cube": (25, 90, 155, 220),
}


# Settings of a cell that came later: keys of older cells do not name them.
_LATER = ("shifts", "discrepancy")


@dataclass(frozen=True)
class Cell:
    """One tilt series of the study.

    Attributes
    ----------
    noise
        Of the projections' standard deviation.
    rows
        Slices of the specimen.
    specimen, thickness, tilts, max_tilt, field
        Which tissue; voxels; number of tilts, within so many degrees; recorded columns.
    poisson
        Counts in place of white noise, as many that their noise has the same mean square.
    vacuum
        Nothing lies beyond the tissue, which the operator does not expect; mirrored tissue else.
    shifts
        Root mean square of the views' shifts along u, pixels, of which the reconstruction is not told.
    discrepancy
        What no volume explains is estimated, as by the package where the noise is not given. It is left
        out else.
    """

    noise: float
    rows: tuple[int, ...]
    specimen: str = "medulla"
    thickness: int = 64
    tilts: int = 61
    max_tilt: float = 60.0
    field: int = 400
    poisson: bool = False
    vacuum: bool = False
    shifts: float = 0.0
    discrepancy: bool = False

    @property
    def key(self) -> str:
        """Name of the files of this cell; settings that older cells lack are named if they differ."""
        own = asdict(self)
        for setting in fields(self):
            if setting.name in _LATER and own[setting.name] == setting.default:
                del own[setting.name]
        text = json.dumps(own, sort_keys=True)
        return f"{self.label}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """Name of the results of this cell."""
        return (
            f"{self.specimen}_{self.thickness}thick_{self.tilts}x{self.max_tilt:g}"
            + (f"_shifts{self.shifts:g}" if self.shifts else "")
            + f"_{'poisson' if self.poisson else 'noise'}{round(100 * self.noise)}"
        )

    @property
    def reference(self) -> Cell:
        """The cell of like thickness and noise whose best settings are tried in this one, too."""
        plain = replace(
            self,
            tilts=61,
            max_tilt=60.0,
            poisson=False,
            vacuum=False,
            shifts=0.0,
            discrepancy=False,
        )
        if self.specimen == "cube":
            return replace(plain, specimen="medulla", field=400, rows=SEARCH_ROWS["medulla"])
        if self.specimen == "deep":
            return replace(plain, **THICK, field=400, rows=SEARCH_ROWS["thick"])
        return plain


def fraction(text: str) -> float:
    """A level of noise, for argparse."""
    value = float(text)
    if not 0 <= value <= 3:
        raise argparse.ArgumentTypeError(f"{text} is not a fraction: 0.05 is 5 %")
    return value


def cells(
    geometries: Iterable[str],
    noises: Iterable[float],
    rows: Mapping[str, tuple[int, ...]],
    slices: int | None = None,
) -> list[Cell]:
    """Every geometry at every level of noise; of some slices only."""
    found = [Cell(noise, (), **GEOMETRIES[name]) for name in geometries for noise in noises]
    return [replace(cell, rows=rows[cell.specimen][:slices]) for cell in found]


def beside(cell: Cell, neighbours: int) -> Cell:
    """The cell of the rows beside each row, so many on each side, in order."""
    near = [k for k in range(-neighbours, neighbours + 1) if k]
    return replace(cell, rows=tuple(row + k for row in cell.rows for k in near))


def tissue(cell: Cell) -> NDArray[np.float32]:
    """The slab's slices, float32 ``(z, row, x)``, grey levels, wider than the field."""
    return surround(unfolded(cell), cell)


def unfolded(cell: Cell) -> NDArray[np.float32]:
    """The same, as wide as the data have it."""
    if not (DATA / "fibsem_medulla").is_dir():
        raise SystemExit(f"no folder fibsem_medulla in {DATA}: set DDGM_DIST_DATA to where it is")
    if cell.specimen == "medulla":
        source = open_volume(DATA / "fibsem_medulla" / "train")
        block = source.read(Box((352, 0, 0), (352 + cell.thickness, 520, 520)))
        slices = block[:, list(cell.rows)]
    elif cell.specimen in ("thick", "deep"):
        source = open_volume(DATA / "fibsem_medulla" / "train")
        planes = [divmod(row, 1000) for row in cell.rows]  # row = 1000 y + z
        slices = np.stack(
            [source.read(Box((z, y, 0), (z + 1, y + cell.thickness, 520)))[0] for y, z in planes],
            axis=1,
        )
    elif cell.specimen == "cube":
        source = open_volume(DATA / "fibsem_medulla" / "val")
        cube = source.read(Box((0, 0, 0), (250, 250, 250)))
        starts = [divmod(row, 250) for row in cell.rows]  # row = 250 z + y
        slices = np.stack([cube[z : z + cell.thickness, y] for z, y in starts], axis=1)
    else:
        raise ValueError(f"no specimen {cell.specimen!r}")
    return np.ascontiguousarray(slices)


def surround(slices: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
    """Mirror at the ends until no recorded ray leaves the tissue sideways: tissue goes on.

    Or pad with vacuum as far.
    """
    steepest = np.deg2rad(cell.max_tilt)
    needed = cell.field / np.cos(steepest) + cell.thickness * np.tan(steepest)
    pad = max(0, (int(np.ceil(needed)) + 5 - slices.shape[2]) // 2)
    mode = "constant" if cell.vacuum else "symmetric"
    return np.pad(slices, ((0, 0), (0, 0), (pad, pad)), mode=mode)  # type: ignore[call-overload]
