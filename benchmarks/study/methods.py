"""Every method behind one signature, with what is searched of it and where its search begins.

``run(slab, settings, seed)`` gives the volume in normalised units. ``space`` holds the settings that
are searched; ``first`` is the first trial of the search, the paper's setting or the shipped default.
``N`` (denoiser calls) is the same for all that denoise and is not searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from slabs import Slab
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm
from ddgm_dist.algorithm.schedule import ScheduleShape, make_schedule, noise_levels
from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.baselines.ddrm import ddrm
from ddgm_dist.baselines.diffpir import diffpir
from ddgm_dist.baselines.dps import dps
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.plug_and_play import dpir, pnp_pgd
from ddgm_dist.baselines.sirt import sirt
from ddgm_dist.baselines.total_variation import total_variation
from ddgm_dist.baselines.wbp import weighted_back_projection

# Of Chambolle-Pock, with two conjugate gradients each.
TV_STEPS = 60
# Conjugate gradients of a proximal map under a mask; five are too few (docs/quality.md).
PROXIMAL_STEPS = 20

Settings = Mapping[str, float | str]


@dataclass(frozen=True)
class Real:
    """An interval that a setting is searched in."""

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True)
class Choice:
    """Values that are all tried."""

    values: tuple[float | str, ...]


@dataclass(frozen=True)
class Method:
    """A method of the study.

    Attributes
    ----------
    run
        ``(slab, settings, seed) -> volume``, float32 ``(z, rows, columns)``.
    space, first
        What is searched, and where the search begins. With one `Choice` alone all are tried.
    denoises
        Whether it takes N denoiser calls.
    sweep
        All estimates of a run by number of steps, where early stopping is what is searched.
    """

    run: Callable[[Slab, Settings, int], Tensor]
    space: Mapping[str, Real | Choice]
    first: Settings
    denoises: bool = False
    sweep: Callable[[Slab, Sequence[int]], Iterator[tuple[int, Tensor]]] | None = None


def _steps(last: int) -> Choice:
    """Numbers of steps up to ``last``, a quarter of an octave apart."""
    values = sorted({round(2 ** (k / 4)) for k in range(100)})
    return Choice(tuple(v for v in values if v <= last))


def _levels(settings: Settings) -> tuple[float, ...]:
    ends = float(settings["sigma_1"]), float(settings["sigma_N"])
    return noise_levels("exponential", *ends, int(settings["N"]))


# -- no prior learned -------------------------------------------------------------------------


def _gradient(slab: Slab, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return gradient_descent(slab.operator, slab.data, stops, slab.problem.step_size)


def _cgls(slab: Slab, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return cgls(slab.operator, slab.data, stops)


def _sirt(slab: Slab, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return sirt(slab.operator, slab.data, stops)


def _stopped(
    sweep: Callable[[Slab, Sequence[int]], Iterator[tuple[int, Tensor]]],
) -> Callable[[Slab, Settings, int], Tensor]:
    def run(slab: Slab, settings: Settings, seed: int) -> Tensor:
        ((_, x),) = sweep(slab, [int(settings["steps"])])
        return x

    return run


def _wbp(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return weighted_back_projection(slab.operator, slab.data, window=settings["window"])


def _tv(slab: Slab, settings: Settings, seed: int) -> Tensor:
    """lam in units of ||A||^2, as the step size is."""
    lam = float(settings["lam"]) / slab.problem.step_size
    ((_, state),) = total_variation(slab.operator, slab.data, [TV_STEPS], lam, inner=2)
    return state.x


# -- with the denoiser ------------------------------------------------------------------------


def _pnp_pgd(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return pnp_pgd(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        sigma=float(settings["sigma"]),
        step_size=float(settings["step"]) * slab.problem.step_size,
        steps=int(settings["N"]),
    )


def _dpir(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return dpir(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        sigma=_levels(settings),
        sigma_y=slab.sigma_y,
        lam=float(settings["lam"]),
        inner=PROXIMAL_STEPS,
    )


def _ddrm(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return ddrm(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        noise=slab.noise(seed),
        sigma=_levels(settings),
        sigma_y=slab.sigma_y,
        eta=float(settings["eta"]),
        eta_b=float(settings["eta_b"]),
        cut=float(settings["cut"]),
    )


def _dps(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return dps(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        noise=slab.noise(seed),
        sigma=_levels(settings),
        zeta=float(settings["zeta"]),
    )


def _diffpir(slab: Slab, settings: Settings, seed: int) -> Tensor:
    return diffpir(
        slab.operator,
        slab.data,
        denoise=slab.denoise(seed),
        noise=slab.noise(seed),
        sigma=_levels(settings),
        sigma_y=slab.sigma_y,
        lam=float(settings["lam"]),
        zeta=float(settings["zeta"]),
        inner=PROXIMAL_STEPS,
    )


def _ddgm(slab: Slab, settings: Settings, seed: int) -> Tensor:
    shape = cast(ScheduleShape, settings.get("schedule", "karras"))
    first, last = float(settings["sigma_1"]), float(settings["sigma_N"])
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
        torch.zeros(slab.box.shape),
        schedule=schedule,
        descend=descend,
        noise=slab.noise(seed),
        denoise=slab.denoise(seed),
    )


DDGM_DEFAULT = {
    "K": 100.0,
    "sigma_1": 5.0,
    "sigma_N": 0.2,
    "added_noise": 0.3,
    "data_weight_cap": 3.0,
}
DDGM_PAPER = {
    "K": 25.0,
    "sigma_1": 3.0,
    "sigma_N": 0.03,
    "schedule": "exponential",
    "added_noise": 1.0,
    "rule": "paper",
}
_SIGMA_1, _SIGMA_N = Real(1.0, 30.0), Real(0.03, 0.5)

_LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

METHODS: dict[str, Method] = {
    "gradient descent": Method(
        _stopped(_gradient), {"steps": _steps(5000)}, {"steps": 100}, sweep=_gradient
    ),
    "CGLS": Method(_stopped(_cgls), {"steps": _steps(150)}, {"steps": 10}, sweep=_cgls),
    "SIRT": Method(_stopped(_sirt), {"steps": _steps(1500)}, {"steps": 100}, sweep=_sirt),
    "WBP": Method(_wbp, {"window": Choice(("ram-lak", "cosine", "hann"))}, {"window": "ram-lak"}),
    "TV": Method(_tv, {"lam": Choice(_LAMBDAS)}, {"lam": 0.03}),
    "PnP-PGD": Method(
        _pnp_pgd,
        {"sigma": Real(0.02, 1.0), "step": Real(0.1, 1.95)},
        {"sigma": 0.1, "step": 1.0},
        denoises=True,
    ),
    "DPIR": Method(
        _dpir,
        {"sigma_1": _SIGMA_1, "sigma_N": _SIGMA_N, "lam": Real(0.01, 10.0)},
        {"sigma_1": 3.0, "sigma_N": 0.1, "lam": 0.23},
        denoises=True,
    ),
    "DDRM": Method(
        _ddrm,
        {
            "sigma_1": _SIGMA_1,
            "sigma_N": _SIGMA_N,
            "eta": Real(0.0, 1.0, log=False),
            "eta_b": Real(0.0, 1.0, log=False),
            "cut": Real(1e-3, 0.3),
        },
        {"sigma_1": 10.0, "sigma_N": 0.05, "eta": 0.85, "eta_b": 1.0, "cut": 0.01},
        denoises=True,
    ),
    "DPS": Method(
        _dps,
        {"sigma_1": _SIGMA_1, "sigma_N": _SIGMA_N, "zeta": Real(0.3, 100.0)},
        {"sigma_1": 10.0, "sigma_N": 0.05, "zeta": 5.0},
        denoises=True,
    ),
    "DiffPIR": Method(
        _diffpir,
        {
            "sigma_1": _SIGMA_1,
            "sigma_N": _SIGMA_N,
            "lam": Real(0.1, 100.0),
            "zeta": Real(0.0, 1.0, log=False),
        },
        {"sigma_1": 10.0, "sigma_N": 0.05, "lam": 8.0, "zeta": 0.3},
        denoises=True,
    ),
    "DDGM": Method(
        _ddgm,
        {
            "sigma_1": _SIGMA_1,
            "sigma_N": _SIGMA_N,
            "K": Real(5.0, 400.0),
            "added_noise": Real(0.0, 1.0, log=False),
            "data_weight_cap": Real(0.3, 30.0),
        },
        DDGM_DEFAULT,
        denoises=True,
    ),
}
