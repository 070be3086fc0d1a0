"""Methods without networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from method import Choice, Run, Settings, Sweep
from slabs import Slab
from torch import Tensor

from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.sirt import sirt
from ddgm_dist.baselines.total_variation import total_variation
from ddgm_dist.baselines.wbp import weighted_back_projection

# Of Chambolle-Pock, with two conjugate gradients each.
TV_STEPS = 60


def steps_up_to(last: int) -> Choice:
    """Numbers of steps up to ``last``, a quarter of an octave apart."""
    values = sorted({round(2 ** (k / 4)) for k in range(100)})
    return Choice(tuple(v for v in values if v <= last))


def by_gradient(slab: Slab, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return gradient_descent(slab.operator, slab.data, stops, slab.problem.step_size)


def by_cgls(slab: Slab, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return cgls(slab.operator, slab.data, stops)


def by_sirt(slab: Slab, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return sirt(slab.operator, slab.data, stops)


def stopped(sweep: Sweep) -> Run:
    """A run of so many steps."""

    def run(slab: Slab, settings: Settings, seed: int) -> Tensor:
        ((_, x),) = sweep(slab, [int(settings["steps"])])
        return x

    return run


def wbp(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return weighted_back_projection(slab.operator, slab.data, window=settings["window"])


def tv(slab: Slab, settings: Settings, seed: int) -> Tensor:
    """lam in units of ||A||^2, as the step size is."""
    lam = float(settings["lam"]) / slab.problem.step_size
    ((_, state),) = total_variation(slab.operator, slab.data, [TV_STEPS], lam, inner=2)
    return state.x
