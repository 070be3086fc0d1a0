"""The baselines against DeepInverse's, on a small slab, with one denoiser.

    python benchmarks/study/against_deepinv.py

Needs the package deepinv (https://deepinv.github.io), which nothing else here does: `pip install
deepinv`. The operator is the slab operator with its mask of measured samples, 12 thick, 48 columns, 15
tilts within 60 degrees; the denoiser a linear one, cheap and not a projection. What is compared is the
estimate after the same iterations, or for total variation the objective that both minimise. Figures go
to benchmarks/results/study/against_deepinv.json.

DPS and DiffPIR are not compared: DeepInverse walks a variance-preserving chain of a thousand DDPM levels
whose betas it fixes, ours a variance-exploding one of given levels (with another schedule of the step
on the data), and the two make the same estimate only in the limit of many levels.
"""

from __future__ import annotations

import json

import deepinv
import numpy as np
import torch
from deepinv.optim.data_fidelity import L2
from deepinv.optim.linear import conjugate_gradient
from deepinv.optim.optim_iterators import GDIteration, HQSIteration, PGDIteration
from deepinv.optim.prior import PnP, TVPrior, ZeroPrior
from deepinv.physics import DecomposablePhysics, GaussianNoise, LinearPhysics
from deepinv.sampling import DDRM
from slabs import RESULTS
from torch import Tensor

from ddgm_dist.baselines.ddrm import ddrm
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.krylov import cgls
from ddgm_dist.baselines.least_squares import misfit
from ddgm_dist.baselines.plug_and_play import dpir, pnp_pgd
from ddgm_dist.baselines.total_variation import total_variation, variation
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.schedule import exponential
from ddgm_dist.operators.slab import SlabData, SlabOperator
from ddgm_dist.operators.slab_basis import norm_squared

SIGMA_Y, LEVELS = 0.5, exponential(3.0, 0.1, 8)


def smooth(x: Tensor, sigma: float | Tensor) -> Tensor:
    """A linear denoiser of ``(..., z, x)``: shrinks what differs from the neighbours."""
    mean = (x + x.roll(1, -1) + x.roll(-1, -1)) / 3
    weight = 1 / (1 + float(torch.as_tensor(sigma).reshape(-1)[0]) ** 2)
    return mean + weight * (x - mean)


class Denoiser(torch.nn.Module):
    """The same for DeepInverse: images ``(1, 1, z, x)``."""

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return smooth(x, sigma)


def ours(x: Tensor, sigma: float, n: int) -> Tensor:
    """``(z, 1, x)``."""
    return smooth(x[:, 0], sigma)[:, None]


class Case:
    """A slab with its data, for both packages."""

    def __init__(self, masked: bool) -> None:
        angles = tuple(float(a) for a in np.linspace(-60, 60, 15))
        geometry = Geometry(angles_deg=angles, thickness=12, rows=1, field=48)
        self.operator = SlabOperator(geometry)
        if not masked:
            # The whole period is solved for, and everything is measured: the SVD is exact.
            self.operator = SlabOperator(geometry, (0, self.operator.length))
        rng = torch.Generator().manual_seed(0)
        width = self.operator.columns[1] - self.operator.columns[0]
        truth = torch.randn(12, 1, width, generator=rng)
        b = self.operator.A(truth)
        b = b + SIGMA_Y * torch.randn(b.shape, generator=rng)
        S = (torch.rand(b.shape, generator=rng) > 0.2).float() if masked else torch.ones(1, 1, 1)
        self.data = SlabData(b * S, S)
        self.eta = 1 / norm_squared(geometry)
        self.physics = LinearPhysics(
            A=lambda x, **_: self.data.measured.permute(1, 0, 2)[None] * self.project(x),
            A_adjoint=lambda y, **_: self.operator.T(y[0].permute(1, 0, 2) * S).permute(1, 0, 2)[
                None
            ],
            tol=1e-5,
            max_iter=2000,
        )
        self.y = self.data.stretched.permute(1, 0, 2)[None]

    def project(self, x: Tensor) -> Tensor:
        return self.operator.A(x[0].permute(1, 0, 2)).permute(1, 0, 2)[None]

    @property
    def zero(self) -> Tensor:
        return torch.zeros(1, 1, 12, self.operator.columns[1] - self.operator.columns[0])

    def iterate(self, iteration, prior, parameters: list[dict]) -> Tensor:
        """DeepInverse's iterations from zero."""
        state = {"est": (self.zero, self.zero), "cost": None}
        for each in parameters:
            state = iteration(state, L2(), prior, each, self.y, self.physics)
        return state["est"][0]


def difference(a: Tensor, b: Tensor) -> float:
    """Relative to the first."""
    a, b = a.reshape(12, -1).double(), b.reshape(12, -1).double()
    return float((a - b).norm() / a.norm())


def gradient(case: Case) -> float:
    ((_, x),) = gradient_descent(case.operator, case.data, [20], case.eta, impute_every=1)
    step = {"stepsize": case.eta, "lambda": 1.0, "g_param": None, "beta": 1.0}
    return difference(x, case.iterate(GDIteration(), ZeroPrior(), [step] * 20))


def least_squares(case: Case) -> float:
    """After 15 conjugate gradients: later, rounding has its say in both."""
    ((_, x),) = cgls(case.operator, case.data, [15])
    physics = case.physics
    theirs = conjugate_gradient(
        lambda v: physics.A_adjoint(physics.A(v)),
        physics.A_adjoint(case.y),
        init=case.zero,
        max_iter=15,
        tol=1e-12,
    )
    return difference(x, theirs)


def variation_objective(case: Case) -> float:
    """Objectives of both minimisers."""
    lam = 0.02 / case.eta
    ((_, state),) = total_variation(case.operator, case.data, [400], lam, inner=5)
    # Proximal gradient with TV's proximal map: theirs is iterated to 1e-8.
    prior = TVPrior(n_it_max=2000)
    step = {"stepsize": case.eta, "lambda": lam, "g_param": None, "beta": 1.0}
    theirs = case.iterate(PGDIteration(), prior, [step] * 400).reshape(state.x.shape)
    a, b = (misfit(case.operator, case.data, v) + lam * variation(v) for v in (state.x, theirs))
    return (b - a) / a


def proximal_gradient(case: Case) -> float:
    x = pnp_pgd(case.operator, case.data, denoise=ours, sigma=0.7, step_size=case.eta, steps=20)
    step = {"stepsize": case.eta, "lambda": 1.0, "g_param": 0.7, "beta": 1.0}
    return difference(x, case.iterate(PGDIteration(), PnP(Denoiser()), [step] * 20))


def splitting(case: Case) -> float:
    x = dpir(
        case.operator, case.data, denoise=ours, sigma=LEVELS, sigma_y=SIGMA_Y, lam=0.23, inner=200
    )
    steps = [
        # Theirs weighs the data by the step, ours the distance by alpha: one over it.
        {"stepsize": s**2 / (0.23 * SIGMA_Y**2), "lambda": 1.0, "g_param": s, "beta": 1.0}
        for s in LEVELS
    ]
    return difference(x, case.iterate(HQSIteration(), PnP(Denoiser()), steps))


def restoration(case: Case) -> float:
    """DDRM's means: the noise that both would add is left out, as it is drawn in different places."""
    operator = case.operator
    matrix = torch.stack(
        [operator.A(e.reshape(12, 1, -1)).flatten() for e in torch.eye(case.zero.numel())], 1
    )
    U, s, Vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    cut = 1e-2 * float(s.max())
    kept = torch.where(s >= cut, s, 0.0).float()
    U, Vh = U.float(), Vh.float()
    shape = case.zero.shape

    # Theirs takes modes for seen whose singular value is above the noise: here all that are kept.
    sigma_y = 0.5 * cut
    physics = DecomposablePhysics(
        U=lambda y, **_: (U @ y.flatten()).reshape(case.y.shape),
        U_adjoint=lambda y, **_: (U.mT @ y.flatten()).reshape(shape),
        V=lambda x, **_: (Vh.mT @ x.flatten()).reshape(shape),
        V_adjoint=lambda x, **_: (Vh @ x.flatten()).reshape(shape),
        mask=kept.reshape(shape),
        noise_model=GaussianNoise(sigma_y),
    )
    draw, torch.randn_like = torch.randn_like, torch.zeros_like
    try:
        sampler = DDRM(Denoiser(), sigmas=np.array(LEVELS), eta=0.85, etab=1.0)
        theirs = sampler(case.y, physics)
    finally:
        torch.randn_like = draw
    # Ours ends with a step to level 0 after the last denoising; theirs with the denoising.
    kept_steps: list[Tensor] = []

    def denoise(x: Tensor, sigma: float, n: int) -> Tensor:
        kept_steps.append(ours(x, sigma, n))
        return kept_steps[-1]

    ddrm(
        operator,
        case.data,
        denoise=denoise,
        noise=lambda n: torch.zeros(12, 1, shape[-1]),
        sigma=LEVELS,
        sigma_y=sigma_y,
        cut=1e-2,
    )
    return difference(kept_steps[-1], theirs)


def main() -> None:
    masked, whole = Case(masked=True), Case(masked=False)
    found = {
        "deepinv": deepinv.__version__,
        "gradient descent, 20 steps: relative difference": gradient(masked),
        "CGLS, 15 steps: relative difference": least_squares(masked),
        "total variation: their objective over ours, less 1": variation_objective(masked),
        "PnP-PGD, 20 steps: relative difference": proximal_gradient(masked),
        "DPIR, 8 levels: relative difference": splitting(masked),
        "DDRM, 8 levels, without noise: relative difference": restoration(whole),
    }
    text = json.dumps(found, indent=1)
    print(text)
    (RESULTS / "against_deepinv.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
