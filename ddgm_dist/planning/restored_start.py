"""The start from a restored estimate, as a part of the problem."""

from __future__ import annotations

from dataclasses import dataclass

from ddgm_dist.core.window import WindowLattice
from ddgm_dist.operators.slab.inverse import DAMPING, ITERATIONS, LEAST_NOISE
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
    """

    digest: str
    stride: int
    neighbours: int

    @staticmethod
    def of(loaded: LoadedRestorer | None) -> RestorerTraits | None:
        """The traits of a loaded restorer; None of none."""
        if loaded is None:
            return None
        return RestorerTraits(loaded.digest, loaded.restorer.stride, loaded.restorer.neighbours)


@dataclass(frozen=True)
class RestoredStart:
    """A start from a restored estimate.

    Attributes
    ----------
    restorer
        Traits of the restorer.
    lattice
        Its windows along x.
    iterations
        Steps of conjugate gradients of the regularized inverse.
    damping, least_noise
        Constants of the inverse (:mod:`ddgm_dist.operators.slab.inverse`): other ones are another
        problem.
    """

    restorer: RestorerTraits
    lattice: WindowLattice
    iterations: int = ITERATIONS
    damping: float = DAMPING
    least_noise: float = LEAST_NOISE

    def rows(self, rows_per_call: int) -> int:
        """Rows of the inverse of one block: its own and those of the neighbours."""
        return rows_per_call + 2 * self.restorer.neighbours
