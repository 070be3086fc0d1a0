r"""SIRT: simultaneous iterative reconstruction, ``x <- x + C A^T R S (b - A x)``.

Gilbert 1972 (J. Theor. Biol. 36, 105), in the symbols of Gregor & Benson 2008 (IEEE Trans. Med.
Imaging 27, 918): R and C hold the inverse row and column sums of A.

Which sums
----------
The classical sums are of ``|A|``, and A's entries are nowhere negative there. Here A's kernel is
band-limited and has signed side lobes. So sums of its magnitudes grow with the width, and sums of A
over a crop or under a mask oscillate about zero. The sums here are of A itself over the whole
period, where they are exact, positive, and those of the plain ray geometry:

    1 / R_t = (A 1)_t = thickness / sqrt(cos theta_t),    1 / C = A^T 1 = sum_t 1 / sqrt(cos theta_t).

They keep the classical guarantee. Each entry of ``C A_k^H R A_k`` is bounded by the entry at k = 0.
There the matrix maps the positive vector 1 to itself, so no eigenvalue exceeds 1. A mask and a crop
only take away from a positive semidefinite matrix, so with any S the weighted residual
``||S (b - A x)||_R`` never rises. The price is speed: a voxel that few measured rays cross converges
more slowly than with a C that counts these rays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddgm_dist.baselines.least_squares import constant
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["inverse_sums", "sirt"]


def inverse_sums(operator: SlabOperator) -> tuple[Tensor, float]:
    """R, float32 ``(tilt, 1, 1)``, and C, one number; see the module's docstring."""
    cosine = torch.cos(torch.tensor(operator.geometry.angles, dtype=torch.float64))
    R = cosine.sqrt() / operator.geometry.thickness
    C = 1 / float(cosine.rsqrt().sum())
    return R.to(operator.device, torch.float32)[:, None, None], C


def sirt(
    operator: SlabOperator,
    data: SlabData,
    steps: Sequence[int],
    *,
    start: float = 0.0,
) -> Iterator[tuple[int, Tensor]]:
    """SIRT from a constant, with the estimate after each of ``steps``.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    steps
        Increasing numbers of steps to stop at.
    start
        Value of the first estimate, in normalised units.

    Yields
    ------
    k, x
        Number of steps and the estimate, float32 ``(z, rows, columns)``.
    """
    R, C = inverse_sums(operator)
    x = constant(operator, data, start)
    done = 0
    for stop in steps:
        for _ in range(done, stop):
            x = x + C * operator.T(R * operator.residual(x, data))
        done = max(done, stop)
        yield stop, x
