"""The start from a restored estimate, as a part of the problem."""

from __future__ import annotations

from dataclasses import dataclass

from ddgm_dist.algorithm.restorer import DARK, ERROR_VARIANCE
from ddgm_dist.core.window import WindowLattice
from ddgm_dist.operators.slab.inverse import DAMPING, LEAST_NOISE, STEPS
from ddgm_dist.prior.restorers import LoadedRestorer

__all__ = ["RestoredStart", "RestorerTraits"]


@dataclass(frozen=True)
class RestorerTraits:
    """A restorer, as far as planning needs to know it.

    Attributes
    ----------
    digest
        SHA-256 of its weights or source.
    stride
        Image extents must be multiples of it.
    neighbours
        Rows on each side whose inverses it is given too.
    repeats
        True if it may be called again, with its estimates.
    """

    digest: str
    stride: int
    neighbours: int
    repeats: bool = False

    @staticmethod
    def of(loaded: LoadedRestorer | None) -> RestorerTraits | None:
        """The traits of a loaded restorer; None of none."""
        if loaded is None:
            return None
        restorer = loaded.restorer
        return RestorerTraits(loaded.digest, restorer.stride, restorer.neighbours, restorer.repeats)


@dataclass(frozen=True)
class RestoredStart:
    """A start from a restored estimate.

    Attributes
    ----------
    restorer
        Traits of the restorer.
    lattice
        Its windows along x.
    calls
        Calls of the restorer, all but the first with its estimates.
    steps, damping, least_noise
        Constants of the inverse (:mod:`ddgm_dist.operators.slab.inverse`): other ones are another
        problem.
    error_variance, dark
        Constants of a call (:mod:`ddgm_dist.algorithm.restorer`).
    """

    restorer: RestorerTraits
    lattice: WindowLattice
    calls: int = 1
    steps: tuple[tuple[float, int], ...] = STEPS
    damping: float = DAMPING
    least_noise: float = LEAST_NOISE
    error_variance: float = ERROR_VARIANCE
    dark: float = DARK

    def rows(self, rows_per_call: int) -> int:
        """Rows of the inverse of one block: its own and those of the neighbours."""
        return rows_per_call + 2 * self.restorer.neighbours
