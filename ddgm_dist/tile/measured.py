"""The data of tiles, stretched onto the operator's grid, read ahead and kept while there is room."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.operators.slab.basis import SlabBasis
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.events import Timer
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["MeasuredBlocks", "Sides", "TileData", "blocks", "joined", "no_rows"]

Sides = tuple[SlabData, SlabData]
"""Data of the rows before a block and after it."""


def blocks(box: Box, rows_per_call: int) -> list[Box]:
    """The blocks of a box: ``rows_per_call`` rows each; the last may reach beyond the box's end."""
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    return [Box((z0, y, x0), (z1, y + rows_per_call, x1)) for y in range(y0, y1, rows_per_call)]


def joined(parts: Iterable[tuple[int, Tensor]], box: Box) -> Tensor:
    """Parts of a box, each with its first row, put together.

    The whole is allocated after the first part is computed: there is room then, without its temporaries.
    """
    out: Tensor | None = None
    for first, part in parts:
        if out is None:
            out = torch.empty(box.shape, device=part.device)
        out[:, first : first + part.shape[1]] = part
        del part  # before the next one is computed
    assert out is not None
    return out


def no_rows(operator: SlabOperator, rows: int) -> SlabData:
    """Data of rows of which nothing was measured."""
    zeros = torch.zeros((operator.geometry.tilts, rows, operator.length), device=operator.device)
    return SlabData(zeros, zeros[:, :1])


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
        timer.lap("setup")
        data = {
            box.start[1]: self._read(operator, box.start[1], box.stop[1], timer)
            for box in blocks(tile.read_box, self.problem.rows_per_call)
        }
        loaded = TileData(operator, data)
        with self._lock:
            self._loaded[tile.name] = loaded
        return loaded

    def sides(
        self, tile: Tile, rows: int, timer: Timer, *, in_turn: bool = False
    ) -> dict[int, Sides]:
        """Data of so many rows before and after each block of a tile, by the block's first row.

        They are read anew, each side in one shape wherever it lies, and not kept. ``in_turn`` says that
        the caller holds the lock of the computation.
        """
        if rows == 0:
            return {}
        with self._lock:
            operator = self._operator(tile)
        timer.lap("setup")
        found = {}
        for box in blocks(tile.read_box, self.problem.rows_per_call):
            first, stop = box.start[1], box.stop[1]
            before = self._read(operator, first - rows, first, timer, in_turn=in_turn)
            after = self._read(operator, stop, stop + rows, timer, in_turn=in_turn)
            found[first] = before, after
        return found

    def _read(
        self, operator: SlabOperator, start: int, stop: int, timer: Timer, *, in_turn: bool = False
    ) -> SlabData:
        """Stretched data of the volume's rows from ``start`` to ``stop``."""
        if stop <= 0 or start >= self.problem.geometry.rows:
            return no_rows(operator, stop - start)
        part = operator.detector_part
        projections, valid = read_rows(
            self.tilts,
            self.problem.geometry,
            self.problem.intensity,
            start,
            stop,
            part,
            screen=self.problem.screen,
        )
        timer.lap("read")
        with contextlib.nullcontext() if in_turn else self._stretching:
            timer.lap("wait")
            data = operator.prepare(
                projections.to(self.device),
                None if valid is None else valid.to(self.device),
                part,
            )
            timer.lap("setup")
        return data

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
