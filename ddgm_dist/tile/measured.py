"""The data of tiles, stretched onto the operator's grid, read ahead and kept while there is room."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch

from ddgm_dist.core.box import Box
from ddgm_dist.operators.slab.basis import SlabBasis
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.events import Timer
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["MeasuredBlocks", "TileData", "blocks"]


def blocks(box: Box, rows_per_call: int) -> list[Box]:
    """The blocks of a box: ``rows_per_call`` rows each; the last may reach beyond the box's end."""
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    return [Box((z0, y, x0), (z1, y + rows_per_call, x1)) for y in range(y0, y1, rows_per_call)]


@dataclass(frozen=True)
class TileData:
    """A tile's operator and data.

    Attributes
    ----------
    operator
        Over the columns of the tile's read box.
    blocks
        Data of every block that the tile reads, by the block's first row.
    """

    operator: SlabOperator
    blocks: dict[int, SlabData]

    @property
    def bytes(self) -> int:
        """Bytes that the data take."""
        return sum(d.stretched.nbytes + d.measured.nbytes for d in self.blocks.values())


class MeasuredBlocks:
    """Loads the stretched data of tiles; safe to call from several threads.

    Parameters
    ----------
    problem
        Gives geometry and intensity.
    length
        Period of the Fourier transform along x, columns.
    tilts
        Open tilt series.
    device
        Device of the data.
    computing
        Lock that the caller holds while it computes. On a CPU it is also held while data are
        stretched. That takes the same cores and would add to the denoiser's peak of memory.
    """

    def __init__(
        self,
        problem: Problem,
        length: int,
        tilts: TiltSeries,
        device: torch.device,
        computing: contextlib.AbstractContextManager[object] | None = None,
    ) -> None:
        self.problem, self.length, self.tilts = problem, length, tilts
        self.device = device
        self._stretching: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if computing is not None and device.type == "cpu":
            self._stretching = computing
        self._basis: SlabBasis | None = None
        self._operators: OrderedDict[tuple[int, int], SlabOperator] = OrderedDict()
        self._loaded: OrderedDict[str, TileData] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, tile: Tile, timer: Timer) -> TileData:
        """A tile's data, read unless they are kept from before."""
        with self._lock:
            if tile.name in self._loaded:
                self._loaded.move_to_end(tile.name)
                return self._loaded[tile.name]
            operator = self._operator(tile)
        part = operator.detector_part
        timer.lap("setup")
        data = {}
        for box in blocks(tile.read_box, self.problem.rows_per_call):
            projections, valid = read_rows(
                self.tilts,
                self.problem.geometry,
                self.problem.intensity,
                box.start[1],
                box.stop[1],
                part,
                screen=self.problem.screen,
            )
            timer.lap("read")
            with self._stretching:
                timer.lap("wait")
                data[box.start[1]] = operator.prepare(
                    projections.to(self.device),
                    None if valid is None else valid.to(self.device),
                    part,
                )
                timer.lap("setup")
        loaded = TileData(operator, data)
        with self._lock:
            self._loaded[tile.name] = loaded
        return loaded

    def drop(self, tile: str) -> None:
        """Forget a tile's data."""
        with self._lock:
            self._loaded.pop(tile, None)

    def trim(self, limit: int) -> None:
        """Forget the data used longest ago until the rest takes at most ``limit`` bytes."""
        with self._lock:
            held = sum(loaded.bytes for loaded in self._loaded.values())
            while self._loaded and held > limit:
                _, loaded = self._loaded.popitem(last=False)
                held -= loaded.bytes

    def _operator(self, tile: Tile) -> SlabOperator:
        """The operator over a tile's columns; tiles share its matrices."""
        columns = (tile.read_box.start[2], tile.read_box.stop[2])
        if columns not in self._operators:
            geometry = self.problem.geometry
            if self._basis is None:
                self._basis = SlabBasis(geometry, self.length, self.device)
            isolated = geometry.boundary == "vacuum"
            self._operators[columns] = SlabOperator(
                geometry,
                columns,
                background=self.problem.intensity.vacuum if isolated else 0.0,
                basis=self._basis,
            )
        return self._operators[columns]
