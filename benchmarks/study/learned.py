"""Methods with the denoiser, with the restorer, or with both.

Where settings name ``restorer_calls``, the start is what so many calls of the restorer make of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from method import Settings
from slabs import Slab
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm
from ddgm_dist.algorithm.schedule import ScheduleShape, make_schedule, noise_levels
from ddgm_dist.baselines.ddrm import ddrm
from ddgm_dist.baselines.diffpir import diffpir
from ddgm_dist.baselines.dps import dps
from ddgm_dist.baselines.plug_and_play import dpir, pnp_pgd
from ddgm_dist.operators.slab.inverse import regularized_inverse

# Conjugate gradients of a proximal map under a mask; five are too few (docs/quality.md).
PROXIMAL_STEPS = 20
# Of the last noise level over the first, at most.
_FALL = 0.9


def levels(settings: Settings) -> tuple[float, ...]:
    """Exponential noise levels; the last is below the first, whatever is asked for."""
    first = float(settings["sigma_1"])
    last = min(float(settings["sigma_N"]), _FALL * first)
    return noise_levels("exponential", first, last, int(settings["N"]))


def start(slab: Slab, settings: Settings) -> Tensor | float:
    """The first estimate: 0, or a restored one."""
    calls = int(settings.get("restorer_calls", 0))
    return slab.restored(calls) if calls else 0.0


def exact_step(slab: Slab, settings: Settings) -> Callable[[Tensor, float], Tensor] | None:
    """The proximal map by the steps of the package's inverse; None where settings name no number."""
    steps = int(settings.get("exact_steps", 0))
    if not steps:
        return None

    def fit(z: Tensor, weight: float) -> Tensor:
        spread = slab.sigma_y / math.sqrt(weight)
        return regularized_inverse(
            slab.operator, slab.data, slab.sigma_y, around=z, spread=spread, iterations=steps
        )

    return fit


def restored(slab: Slab, settings: Settings, seed: int) -> Tensor:
    """The restorer alone, or with a data step: to the data, as if its error had the variance nu^2."""
    x = slab.restored(int(settings["restorer_calls"]))
    if "nu2" not in settings:
        return x
    spread = math.sqrt(float(settings["nu2"]))
    return regularized_inverse(slab.operator, slab.data, slab.sigma_y, around=x, spread=spread)


def run_pnp_pgd(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return pnp_pgd(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        sigma=float(settings["sigma"]),
        step_size=float(settings["step"]) * slab.problem.step_size,
        steps=int(settings["N"]),
        start=start(slab, settings),
    )


def run_dpir(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return dpir(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        sigma=levels(settings),
        sigma_y=slab.sigma_y,
        lam=float(settings["lam"]),
        start=start(slab, settings),
        inner=PROXIMAL_STEPS,
        data_step=exact_step(slab, settings),
    )


def run_ddrm(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return ddrm(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        noise=slab.noise(seed),
        sigma=levels(settings),
        sigma_y=slab.sigma_y,
        eta=float(settings["eta"]),
        eta_b=float(settings["eta_b"]),
        cut=float(settings["cut"]),
        start=start(slab, settings),
    )


def run_dps(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return dps(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        noise=slab.noise(seed),
        sigma=levels(settings),
        zeta=float(settings["zeta"]),
    )


def run_diffpir(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return diffpir(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        noise=slab.noise(seed),
        sigma=levels(settings),
        sigma_y=slab.sigma_y,
        lam=float(settings["lam"]),
        zeta=float(settings["zeta"]),
        start=start(slab, settings),
        inner=PROXIMAL_STEPS,
        data_step=exact_step(slab, settings),
    )


def run_ddgm(slab: Slab, settings: Settings, seed: int) -> Tensor:
    """The package's loop; with N = 0 the start is all."""
    x = start(slab, settings)
    if not isinstance(x, Tensor):
        x = torch.zeros(slab.box.shape)
    if not int(settings["N"]):
        return x
    shape = cast(ScheduleShape, settings.get("schedule", "karras"))
    first, last = float(settings["sigma_1"]), float(settings["sigma_N"])
    if "restorer_calls" in settings:  # the search draws both from intervals that overlap
        last = min(last, _FALL * first)
    sigma = noise_levels(shape, first, last, int(settings["N"]))
    schedule = make_schedule(
        N=len(sigma),
        K=float(settings["K"]),
        sigma=sigma,
        added_noise=float(settings["added_noise"]),
        rule="paper" if settings.get("rule") == "paper" else "noise-aware",
        step_size=slab.problem.step_size,
        sigma_y=slab.sigma_y,
        data_weight_cap=float(settings.get("data_weight_cap", 1.0)),
    )

    def descend(x: Tensor, steps: float) -> Tensor:
        x, _ = slab.operator.descend(x, slab.data, steps, slab.problem.step_size)
        return x

    return ddgm(
        x,
        schedule=schedule,
        descend=descend,
        noise=slab.noise(seed),
        denoise=slab.denoise(seed),
    )
