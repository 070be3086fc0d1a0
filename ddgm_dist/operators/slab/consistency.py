r"""The part of a tilt series that no volume explains.

At low frequencies many more tilts look at the slab than it has degrees of freedom. So
the rows of `A_k` depend on each other, and so must the data. What breaks that dependence is noise,
or the model's own error: views that are not aligned, a wrong thickness, gain that varies.

The misfit is the residual of a long descent on ``1/2 ||S (A x - b)||^2``, with Nesterov's momentum
``(j - 1) / (j + 2)`` (Nesterov 1983, Sov. Math. Dokl. 27, 372) and at each frequency the step
``1 / max_t sum_t' |A_k A_k^T|[t, t']``. That bounds ``||A_k||^2`` (Gershgorin), and masks only lower
it, so the descent converges. The steps are fixed beforehand, so the residual is
linear in the data. White noise that descends beside the data tells what share of it is left. The
ratio of the two is in the unit of white noise, whatever the number of tilts.

The volume may fill the whole period of the Fourier transform here. Then an iteration stays in Fourier
space but for the mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.operators.slab.basis import from_fourier, to_fourier
from ddgm_dist.operators.slab.operator import SlabOperator

__all__ = ["ITERATIONS", "unexplained"]

# From here on the residual of simulated series changes by less than their noise.
ITERATIONS = 80
# Bytes of the products of views that are in memory at a time.
_PRODUCT_BYTES = 16 * 2**20


def unexplained(
    operator: SlabOperator, residual: Tensor, measured: Tensor, iterations: int = ITERATIONS
) -> Tensor:
    """Residual that is left after a descent from some volume; linear in ``residual``.

    Parameters
    ----------
    operator
        A of the slab.
    residual
        ``S (b - A x)`` of the first volume, float32 ``(tilt, rows, length)``.
    measured
        S, broadcastable to ``residual``.
    iterations
        Number of descents.

    Returns
    -------
    Tensor
        ``S (b - A x)`` of the last volume, shape of ``residual``.
    """
    matrix, rows = operator.matrix, residual.shape[1]
    bound = _bound(matrix)
    step = torch.where(bound > 0, 1 / bound.clamp(min=1e-30), 0.0)[:, None, None]
    x = previous = torch.zeros((matrix.shape[0], matrix.shape[2], 2 * rows), device=matrix.device)
    left = residual
    for j in range(1, iterations + 1):
        ahead = x + (j - 1) / (j + 2) * (x - previous)
        left = _residual(operator, ahead, residual, measured)
        x, previous = ahead + step * (matrix.mT @ to_fourier(left)), x
    return _residual(operator, x, residual, measured)


def _bound(matrix: Tensor) -> Tensor:
    """Bound of the squared norm at each frequency; some at a time, for views by views are many."""
    frequencies, tilts, _ = matrix.shape
    together = max(1, _PRODUCT_BYTES // (4 * tilts * tilts))
    parts = [matrix[k : k + together] for k in range(0, frequencies, together)]
    return torch.cat([(part @ part.mT).abs().sum(dim=2).amax(dim=1) for part in parts])


def _residual(operator: SlabOperator, x: Tensor, data: Tensor, measured: Tensor) -> Tensor:
    predicted = from_fourier(operator.matrix @ x, data.shape[1], operator.length)
    return data - measured * predicted
