"""Tiles of a volume: cut along y without overlap, along x with margins and smooth blending."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import PlanError
from ddgm_dist.planning.config import ProblemConfig

__all__ = [
    "Tile",
    "Tiles",
    "blend_half_width",
    "columns_and_margin",
    "default_margin",
    "make_tiles",
    "widest_read",
    "window_support",
]

# Half the zone, in columns, over which coupled tiles are blended around a cut.
BLEND = 32
# Columns more for a restored start. Cut at 160 columns, tissue 64 thick with 5 % noise came within 42.9
# dB of the whole without them, within 47.9 dB with them.
_RESTORED = 112
# Columns per chunk of the output, in wide and in narrow volumes.
WIDE_CHUNK, NARROW_CHUNK, NARROW_FIELD = 64, 16, 1024
# Domains up to this width are solved whole, unless tile_columns is given. That is a key of the
# problem, so it must not depend on the memory of a machine.
WHOLE_WIDTH = 8192
COUPLED_WIDTH = 4096


@dataclass(frozen=True, slots=True)
class Tile:
    """A piece of the volume and the context it needs.

    Attributes
    ----------
    name
        ``y000000-x000000``: the first row and column it owns. With several samples the number of its
        sample comes first, such as ``s0003-`` for the fourth.
    write_box
        Voxels it owns; the write boxes of all tiles partition the volume.
    read_box
        Voxels it solves for: its own and its halo, in the padded domain.
    group
        Number of its group. Tiles of one group are coupled; those of different groups are not.
    sample
        Number of its sample, from 0.
    """

    name: str
    write_box: Box
    read_box: Box
    group: int
    sample: int = 0

    @property
    def place(self) -> str:
        """The name without the sample: tiles of one place own the same voxels."""
        return _place(self.write_box)


@dataclass(frozen=True)
class Tiles(Sequence[Tile]):
    """All tiles of a plan, sample by sample, group by group, from left to right.

    Tiles are made on access, and only the cuts are kept. Every worker has the plan, and a hundred
    thousand tiles would take 100 MB.

    Attributes
    ----------
    depth, rows, field
        Extents of the volume along z, y and x.
    domain
        Columns ``[first, last)`` that may be read.
    tile_rows, tile_columns
        Rows and columns that a tile owns, at most.
    margin, halo
        Columns and rows that it reads beyond these.
    samples
        Number of samples, each of which has all the tiles.
    """

    depth: int
    rows: int
    field: int
    domain: tuple[int, int]
    tile_rows: int
    tile_columns: int
    margin: int
    halo: int
    samples: int = 1

    @property
    def columns(self) -> int:
        """Number of tiles along x."""
        return -(-self.field // self.tile_columns)

    def __len__(self) -> int:
        """Number of tiles."""
        return self.samples * self._strips * self.columns

    @property
    def _strips(self) -> int:
        """Number of tiles along y."""
        return -(-self.rows // self.tile_rows)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...
    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        """One tile or several."""
        found = range(len(self))[index]  # negative and wrong indices behave as for a tuple
        return self._make(found) if isinstance(found, int) else tuple(map(self._make, found))

    def kept(self, workers: int) -> int:
        """Number of coupled tiles that each worker keeps: its share of a group and one more.

        The one more moves in when another worker is lost.
        """
        most = self.columns * (self._strips if self.halo else 1)
        return min(most, max(2, math.ceil(most / workers)) + 1)

    def _make(self, index: int) -> Tile:
        strip, column = divmod(index, self.columns)
        sample, row = divmod(strip, self._strips)
        (first, last), halo = self.domain, self.halo
        y0, x0 = row * self.tile_rows, column * self.tile_columns
        y1, x1 = min(self.rows, y0 + self.tile_rows), min(self.field, x0 + self.tile_columns)
        read0 = first if x0 == 0 else max(first, x0 - self.margin)
        read1 = last if x1 == self.field else min(last, x1 + self.margin)
        own = Box((0, y0, x0), (self.depth, y1, x1))
        read = Box((0, max(0, y0 - halo), read0), (self.depth, min(self.rows, y1 + halo), read1))
        name = _place(own) if self.samples == 1 else f"s{sample:04d}-{_place(own)}"
        return Tile(name, own, read, sample if halo else strip, sample)


def _place(own: Box) -> str:
    return f"y{own.start[1]:06d}-x{own.start[2]:06d}"


def blend_half_width(margin: int) -> int:
    """Half of the blending zone: its outer end keeps at least half of the margin as context."""
    return max(1, min(BLEND, margin // 2))


def window_support(tile: Tile, field: int, margin: int) -> tuple[int, int]:
    """Columns ``[start, stop)`` of a tile's blending window.

    They are its own and half the blending zone beyond each cut; at the volume's edges all it reads.
    """
    half = blend_half_width(margin)
    own, read = tile.write_box, tile.read_box
    start = read.start[2] if own.start[2] == 0 else own.start[2] - half
    stop = read.stop[2] if own.stop[2] == field else own.stop[2] + half
    return start, stop


def default_margin(geometry: Geometry, *, restored: bool = False) -> int:
    """Columns read beyond a tile's own: reach of rays or context of the denoiser, and blending zone.

    A restored start needs more: its network sees farther, and its inverse is of all that is read.
    """
    return max(geometry.reach, 2 * BLEND) + 2 * BLEND + (_RESTORED if restored else 0)


def column_cuts(field: int, tile_columns: int) -> list[int]:
    """Boundaries of tiles along x."""
    return [*range(0, field, tile_columns), field]


def chunk_columns(field: int) -> int:
    """Columns per chunk; tiles are cut at multiples of it."""
    return WIDE_CHUNK if field >= NARROW_FIELD else NARROW_CHUNK


def equal_columns(field: int, wanted: int) -> int:
    """Columns per tile: as few equal tiles as ``wanted`` allows, rounded up to whole chunks."""
    chunk = chunk_columns(field)
    even = math.ceil(field / math.ceil(field / wanted))
    return math.ceil(even / chunk) * chunk


def columns_and_margin(geometry: Geometry, config: ProblemConfig) -> tuple[int, int]:
    """Width of tiles along x and the margin they read beyond it; see :func:`equal_columns`."""
    wanted = config.tile_columns
    if wanted is None:
        wanted = geometry.field if geometry.field <= WHOLE_WIDTH else COUPLED_WIDTH
    restored = config.start == "restored"
    margin = config.margin or default_margin(geometry, restored=restored)
    return equal_columns(geometry.field, wanted), margin


def widest_read(geometry: Geometry, config: ProblemConfig) -> int:
    """Columns of the widest read box."""
    first, last = geometry.domain
    tile_columns, margin = columns_and_margin(geometry, config)
    if tile_columns >= geometry.field:
        return last - first
    return min(last - first, tile_columns + 2 * max(margin, -first))


def narrowest_tile(field: int, tile_columns: int) -> int:
    """Columns of the narrowest tile."""
    xs = column_cuts(field, tile_columns)
    return min(b - a for a, b in pairwise(xs))


def make_tiles(
    geometry: Geometry,
    *,
    tile_rows: int,
    tile_columns: int,
    margin: int,
    halo: int = 0,
    samples: int = 1,
) -> Tiles:
    """All tiles, sample by sample, group by group, from left to right.

    With a halo along y (rows read beyond a tile's own) all tiles of a sample are one group.

    Raises
    ------
    PlanError
        If a tile is narrower than the blending zone on its two sides.
    """
    first, last = geometry.domain
    xs = column_cuts(geometry.field, tile_columns)
    half = blend_half_width(margin)
    narrowest = narrowest_tile(geometry.field, tile_columns)
    if len(xs) > 2 and narrowest < 2 * half:
        counts = range(len(xs) - 2, 0, -1)
        widths = [equal_columns(geometry.field, math.ceil(geometry.field / n)) for n in counts]
        wide = [w for w in widths if narrowest_tile(geometry.field, w) >= 2 * half]
        raise PlanError(
            "tile_columns",
            tile_columns,
            f"cuts {geometry.field} columns so that a tile is {narrowest} wide; blending needs at "
            f"least {2 * half}",
            f"try {max(16, (wide or [geometry.field])[0])}",
        )
    return Tiles(
        depth=geometry.thickness,
        rows=geometry.rows,
        field=geometry.field,
        domain=(first, last),
        tile_rows=tile_rows,
        tile_columns=tile_columns,
        margin=margin,
        halo=halo,
        samples=samples,
    )
