"""The estimate that a tile's iterations begin from: zeros, or what a restorer makes of the data.

A restored start depends on the data alone, not on other tiles. For each block of rows the regularized
inverse is made of the block and of the restorer's neighbours, always in that one shape. Beyond the
volume's ends the image of the nearest row is repeated. A repeated call takes the estimate of before, and
the data step about it, of the block's own rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import ERROR_VARIANCE, Acquisition, Restorer, restore_rows
from ddgm_dist.core.box import Box
from ddgm_dist.operators.slab.inverse import regularized_inverse, sound_noise
from ddgm_dist.operators.slab.operator import SlabData
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.prior.restorers import LoadedRestorer, shared_restorer
from ddgm_dist.tile.measured import Sides, TileData, blocks, joined, no_rows

__all__ = ["Start", "start_restorer"]


def start_restorer(
    config: ProblemConfig, device: torch.device | str = "cpu"
) -> LoadedRestorer | None:
    """The restorer that a configuration starts with; None where it starts with zeros.

    Raises
    ------
    InputError
        It cannot be found or cannot be used.
    """
    if config.start == "zero":
        return None
    return shared_restorer(config.restorer, device=device, precision=config.precision)


class Start:
    """First estimates of any tile of one problem, and their share in its last one.

    Parameters
    ----------
    problem
        Problem to solve.
    restorer
        Restorer on the device; None where tiles begin with zeros.
    device
        Device of the computation.
    """

    def __init__(self, problem: Problem, restorer: Restorer | None, device: torch.device) -> None:
        self.problem, self.restorer, self.device = problem, restorer, device
        intensity = problem.intensity
        self.noise = sound_noise(problem.geometry, intensity.uncertainty / intensity.std)
        self.acquisition = Acquisition.of(problem.geometry)

    @property
    def neighbours(self) -> int:
        """Rows beside a block whose data are needed, on each side."""
        return 0 if self.restorer is None else self.restorer.neighbours

    def __call__(self, tile: Tile, data: TileData, sides: Mapping[int, Sides]) -> Tensor:
        """The first estimate of a tile.

        Parameters
        ----------
        tile
            Any tile of the problem.
        data
            The tile's operator and data.
        sides
            Data of the `neighbours` rows before and after blocks, by the block's first row. Blocks that
            are not named have none.

        Returns
        -------
        Tensor
            Float32 ``(z, rows, columns)`` over the tile's read box.
        """
        if self.restorer is None:
            return torch.zeros(tile.read_box.shape, device=self.device)
        return joined(self._restored(self.restorer, tile.read_box, data, sides), tile.read_box)

    def share(
        self, estimate: Tensor, box: Box, tile: Tile, data: TileData, sides: Mapping[int, Sides]
    ) -> None:
        """Give the first estimate its share in the last one, in place.

        It is made again, block by block: to keep it would double the state of every tile.

        Parameters
        ----------
        estimate, box
            The last estimate, float32 ``(z, rows, columns)`` over a box within the tile's read box.
        tile, data, sides
            As above.
        """
        share, read = self.problem.config.start_share, tile.read_box
        if self.restorer is None or not share:
            return
        (_, y0, x0), (_, y1, x1) = box.start, box.stop
        columns = slice(x0 - read.start[2], x1 - read.start[2])
        for offset, part in self._restored(self.restorer, read, data, sides):
            first = read.start[1] + offset
            a, b = max(first, y0), min(first + part.shape[1], y1)
            if a < b:
                estimate[:, a - y0 : b - y0].lerp_(part[:, a - first : b - first, columns], share)

    def _restored(
        self, restorer: Restorer, box: Box, data: TileData, sides: Mapping[int, Sides]
    ) -> Iterator[tuple[int, Tensor]]:
        problem, near = self.problem, restorer.neighbours
        restored = problem.restored
        assert restored is not None, "the problem starts with a restorer"
        operator, nothing = data.operator, no_rows(data.operator, near)
        for block in blocks(box, problem.rows_per_call):
            first = block.start[1]
            own = measured = data.blocks[first]
            if near:
                before, after = sides.get(first, (nothing, nothing))
                measured = _in_order(before, own, after)
            x_w = regularized_inverse(operator, measured, self.noise)
            del measured
            rows = torch.arange(first - near, block.stop[1] + near)
            rows = rows.clamp(0, problem.geometry.rows - 1) - (first - near)
            x_w = x_w[:, rows.to(x_w.device)]
            coverage = operator.coverage(own.measured)

            def restore(
                estimates: tuple[Tensor, Tensor] | None = None,
                x_w: Tensor = x_w,
                coverage: Tensor = coverage,
                block: Box = block,
            ) -> Tensor:
                return restore_rows(
                    restorer,
                    x_w,
                    self.noise,
                    self.acquisition,
                    coverage=coverage,
                    box=block,
                    lattice=restored.lattice,
                    estimates=estimates,
                )

            part = restore()
            for _ in range(restored.calls - 1):
                corrected = regularized_inverse(
                    operator, own, self.noise, around=part, spread=ERROR_VARIANCE**0.5
                )
                part = restore((part, corrected))
            yield first - box.start[1], part[:, : box.stop[1] - first]


def _in_order(*parts: SlabData) -> SlabData:
    """Data of rows that follow each other."""
    masks = [part.measured.expand(part.stretched.shape) for part in parts]
    return SlabData(torch.cat([part.stretched for part in parts], 1), torch.cat(masks, 1))
