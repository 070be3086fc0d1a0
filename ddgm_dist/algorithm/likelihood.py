r"""Negative log-likelihoods of data given their prediction, and their slopes.

A descent on a negative log-likelihood has one unit for every kind of noise: data of standard
deviation sigma_y pull with ``1 / sigma_y^2``. So give ``sigma_y = 1`` to
:func:`~ddgm_dist.algorithm.schedule.make_schedule`, whatever the noise of each sample. The rule
``noise-aware`` then caps the flow time at ``data_weight_cap * sigma_n^2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddgm_dist.algorithm.residual import check_measured
from ddgm_dist.errors import InputError

__all__ = ["GaussianLikelihood", "Likelihood", "PoissonLikelihood"]


class Likelihood(Protocol):
    """A negative log-likelihood of data, as a function of their prediction."""

    def value(self, prediction: Tensor) -> float:
        """The negative log-likelihood, summed in float64, up to a constant of the data."""

    def slope(self, prediction: Tensor) -> Tensor:
        """Derivative with respect to every sample of the prediction, shape of the prediction."""


@dataclass(frozen=True)
class GaussianLikelihood:
    """Negative log-likelihood of Gaussian noise, ``sum S (prediction - b)^2 / (2 sigma_y^2)``.

    Attributes
    ----------
    data
        b, in any unit.
    sigma_y
        Standard deviation of its noise, in the same unit; one number or one per sample.
    measured
        S, 1 where b was measured, 0 elsewhere; all ones when None.
    """

    data: Tensor
    sigma_y: float | Tensor
    measured: Tensor | None = None

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.sigma_y) > 0).all()):
            raise InputError("sigma_y", self.sigma_y, "the noise of the data must be positive")
        check_measured(self.measured, self.data)

    def value(self, prediction: Tensor) -> float:
        """The sum, half the squared residual in units of the noise."""
        residual = _masked((prediction - self.data) / self.sigma_y, self.measured)
        return float(residual.double().square().sum()) / 2

    def slope(self, prediction: Tensor) -> Tensor:
        """The slope ``S (prediction - b) / sigma_y^2``, shape of the prediction."""
        return _masked((prediction - self.data) / self.sigma_y**2, self.measured)


@dataclass(frozen=True)
class PoissonLikelihood:
    """Half the deviance of Poisson counts, ``sum S (I - y + y log(y / I))`` with expectation I.

    It differs from the negative log-likelihood ``I - y log I`` by a constant of the data. It is 0
    where the prediction equals the counts.

    Attributes
    ----------
    counts
        y, 0 or more; need not be whole, for detectors that add several readings up.
    measured
        S, 1 where y was measured, 0 elsewhere; all ones when None.
    """

    counts: Tensor
    measured: Tensor | None = None

    def __post_init__(self) -> None:
        if not bool((torch.isfinite(self.counts) & (self.counts >= 0)).all()):
            raise InputError(
                "counts",
                f"smallest {float(self.counts.min()):g}",
                "must be numbers, 0 or more",
                "subtract no more than the dark level, and mask bad pixels",
            )
        check_measured(self.measured, self.counts)

    def value(self, prediction: Tensor) -> float:
        """Half the deviance of the counts."""
        expected, y = prediction.double(), self.counts.double()
        deviance = expected - y + torch.xlogy(y, y) - torch.xlogy(y, expected)
        return float(_masked(deviance, self.measured).sum())

    def slope(self, prediction: Tensor) -> Tensor:
        """The slope ``S (1 - y / I)``; finite where I underflowed to 0 and no count was seen."""
        tiny = torch.finfo(prediction.dtype).tiny
        return _masked(1 - self.counts / prediction.clamp(min=tiny), self.measured)


def _masked(values: Tensor, measured: Tensor | None) -> Tensor:
    return values if measured is None else values * measured
