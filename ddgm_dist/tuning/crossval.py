"""Cross-validation over held-out tilts: a block solved from some tilts, judged by the others.

Two kinds of tilts are held out at once. Those *between* the kept ones, every f-th, show the error in
the directions that were measured. The outermost, *beyond* the kept ones, stand for the missing wedge:
they are the measured directions nearest to it. :mod:`ddgm_dist.tuning.held_out` turns both into mean
squared errors per voxel, as if all directions were alike. The estimate of the whole is their mean,
weighted by the shares of directions that were and were not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddgm_dist.algorithm.denoiser import Denoiser
from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.restored_start import RestorerTraits
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.prior.restorers import LoadedRestorer
from ddgm_dist.tile.iterate import Iteration
from ddgm_dist.tile.measured import TileData
from ddgm_dist.tile.start import Start, start_restorer
from ddgm_dist.tilts.crop import Crop
from ddgm_dist.tuning.folds import Fold
from ddgm_dist.tuning.held_out import HeldOutError, held_out_error
from ddgm_dist.tuning.model_error import Leftover, mean_leftover, smooth_residual
from ddgm_dist.tuning.successive_halving import Estimate

__all__ = [
    "BlockScore",
    "BlockSolver",
    "HeldOut",
]


class BlockSolver:
    """Solves one block from its tilts as the engine would, in memory.

    The iteration and the operator are the engine's. The block is denoised in the plane (z, x),
    whatever ``planes`` says: it has too few rows for the others.

    Parameters
    ----------
    crop
        The block with the tilts to use.
    domain
        Columns solved for: those that any of the block's tilts needs, used or not.
    problem
        The whole series' problem: intensity, windows, seeds.
    denoiser, device
        The denoiser, and the device that it is on.
    """

    def __init__(
        self,
        crop: Crop,
        domain: tuple[int, int],
        problem: Problem,
        denoiser: Denoiser,
        device: torch.device,
    ) -> None:
        self.crop, self.whole, self.device = crop, problem, device
        self.denoiser, self.domain = denoiser, domain
        operator = _operator(crop, domain, problem, device)
        data = operator.prepare(
            crop.projections.to(device), None if crop.valid is None else crop.valid.to(device)
        )
        self.data = TileData(operator, {0: data})
        g = crop.geometry
        box = Box((0, 0, domain[0]), (g.thickness, g.rows, domain[1]))
        self.tile = Tile("block", box, box, 0)

    def __call__(
        self, config: ProblemConfig, seed: int, on_step: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Run all iterations.

        Parameters
        ----------
        config
            The settings that are tried.
        seed
            Seed of the added noise.
        on_step
            Called after each iteration.

        Returns
        -------
        Tensor
            Normalised estimate over the domain, float32 ``(z, rows, columns)``.
        """
        problem, start = self._posed(config, seed)
        # No row beside the block is known.
        x = start(self.tile, self.data, {})
        iterate = Iteration(problem, self.denoiser, self.device)
        for n in range(len(problem.schedule)):
            x, _ = iterate(self.tile, x, n, self.data)
            on_step()
        start.share(x, self.tile.read_box, self.tile, self.data, {})
        return x

    def begin(self, config: ProblemConfig, seed: int) -> tuple[Problem, Tensor]:
        """The block's problem, and the estimate that its iterations begin from.

        Parameters
        ----------
        config, seed
            As those of a call.
        """
        problem, start = self._posed(config, seed)
        return problem, start(self.tile, self.data, {})

    def _posed(self, config: ProblemConfig, seed: int) -> tuple[Problem, Start]:
        loaded = start_restorer(config, self.device)
        problem = self.problem(config, seed, loaded)
        return problem, Start(problem, None if loaded is None else loaded.restorer, self.device)

    def problem(
        self, config: ProblemConfig, seed: int, restorer: LoadedRestorer | None = None
    ) -> Problem:
        """The block's problem under some settings, and with the restorer that they name.

        Fewer tilts make the default step, 1 / ||A||^2, larger, and the squares of all singular values
        smaller by the same factor. So K steps do what K steps do with all tilts.
        """
        geometry, whole = self.crop.geometry, self.whole
        alone = {"planes": ("zx",), "seed": seed, "rows_per_call": geometry.rows}
        return Problem.derive(
            geometry,
            config.model_copy(update=alone),
            whole.intensity,
            stride=self.denoiser.stride,
            data_digest=whole.data_digest,
            denoiser_digest=whole.denoiser_digest,
            screen=whole.screen,
            restorer=RestorerTraits.of(restorer),
            domain=self.domain,
        )


@dataclass(frozen=True)
class BlockScore:
    """Score of one block under some settings; infinite where the estimate is.

    Attributes
    ----------
    between, beyond
        Mean squared error per voxel, of the volume's variance, by each held-out tilt of either
        kind.
    misfit
        Squared residual of all held-out tilts over their noise's; None where no noise is known.
    leftover
        What those between the kept ones leave, for signs of an error of the model.
    """

    between: tuple[float, ...]
    beyond: tuple[float, ...]
    misfit: float | None
    leftover: Leftover = field(default_factory=lambda: Leftover(None))

    def error(self, share: float) -> Estimate:
        """Estimated mean squared error of the whole; ``share`` of the directions were measured."""
        return Estimate((share, 1 - share), (self.between, self.beyond))


class HeldOut:
    """The held-out tilts of one block.

    Parameters
    ----------
    crop
        The block with all its tilts.
    fold
        The tilts that are held out.
    domain, problem, device
        As the parameters of :class:`BlockSolver`.
    """

    def __init__(
        self,
        crop: Crop,
        fold: Fold,
        domain: tuple[int, int],
        problem: Problem,
        device: torch.device,
    ) -> None:
        self.between, self.sigma_y = len(fold.between), problem.intensity.relative_noise
        self.unexplained = problem.intensity.uncertainty / problem.intensity.std
        held = crop.subset((*fold.between, *fold.beyond))
        self.geometry = held.geometry
        self.operator = _operator(held, domain, problem, device)
        self.data = self.operator.prepare(
            held.projections.to(device), None if held.valid is None else held.valid.to(device)
        )

    def __call__(self, x: Tensor) -> BlockScore:
        """Judge an estimate, float32 ``(z, rows, columns)`` over the domain."""
        if not bool(torch.isfinite(x).all()):
            return BlockScore((math.inf,), (math.inf,), math.inf)
        residual = self.operator.residual(x, self.data)
        found = [
            held_out_error(
                residual[t], self.data.measured[t], angle, self.geometry.thickness, self.sigma_y
            )
            for t, angle in enumerate(self.geometry.angles)
        ]
        misfits = [f.misfit for f in found if f is not None and f.misfit is not None]
        return BlockScore(
            between=_errors(found[: self.between]),
            beyond=_errors(found[self.between :]),
            misfit=sum(misfits) / len(misfits) if misfits else None,
            leftover=mean_leftover(
                self._leftover(residual[t], t, found[t]) for t in range(self.between)
            ),
        )

    def _leftover(self, residual: Tensor, tilt: int, found: HeldOutError | None) -> Leftover:
        """Residual of one tilt, over what is known not to be explained."""
        misfit = None if found is None else found.misfit
        if misfit is not None:
            misfit *= (self.sigma_y / self.unexplained) ** 2
        smooth = smooth_residual(
            residual, self.data.measured[tilt], self.geometry.angles[tilt], self.unexplained
        )
        return Leftover(misfit, *(smooth or (None, None)))


def _errors(found: Sequence[HeldOutError | None]) -> tuple[float, ...]:
    errors = tuple(f.error for f in found if f is not None)
    if not errors:
        raise InputError(
            "tilts",
            "held-out tilts",
            "show fewer than 16 columns whose rays stay within the field",
            "the field is too narrow for its thickness to be cross-validated",
        )
    return errors


def _operator(
    crop: Crop, domain: tuple[int, int], problem: Problem, device: torch.device
) -> SlabOperator:
    geometry: Geometry = crop.geometry
    isolated = geometry.boundary == "vacuum"
    return SlabOperator(
        geometry, domain, background=problem.intensity.vacuum if isolated else 0.0, device=device
    )
