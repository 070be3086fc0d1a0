"""Every method behind one signature, the presets of ours, and the lines of the table.

``run(slab, settings, seed)`` gives the volume in normalised units. ``space`` holds the settings that
are searched; ``first`` is the first trial of the search, the paper's setting or the shipped default.
``N`` (denoiser calls) is not searched: 50, or 15 and 49 after a call of the restorer.

A method *with a restored start* begins from one call of the restorer in place of zero, at a noise level
that is searched from 0.15 on. *Exact step* names the package's data step in place of the proximal map: 1
to 4 conjugate gradients, preconditioned in the operator's eigenbasis, in place of 20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from classical import by_cgls, by_gradient, by_sirt, steps_up_to, stopped, tv, wbp
from learned import (
    restored,
    run_ddgm,
    run_ddrm,
    run_diffpir,
    run_dpir,
    run_dps,
    run_pnp_pgd,
)
from method import Choice, Method, Real, Run, Settings, Whole

DDGM_DEFAULT: dict[str, float | str] = {
    "K": 100.0,
    "sigma_1": 5.0,
    "sigma_N": 0.2,
    "added_noise": 0.3,
    "data_weight_cap": 3.0,
}
DDGM_PAPER: dict[str, float | str] = {
    "K": 25.0,
    "sigma_1": 3.0,
    "sigma_N": 0.03,
    "schedule": "exponential",
    "added_noise": 1.0,
    "rule": "paper",
}
# A restored start, from which the noise need not begin high.
RESTORED: dict[str, float | str] = {
    **DDGM_DEFAULT,
    "sigma_1": 0.5,
    "sigma_N": 0.15,
    "added_noise": 0.0,
    "restorer_calls": 1,
}


@dataclass(frozen=True)
class Preset:
    """A preset of ours: settings, denoiser calls of a sample, and samples whose mean counts."""

    settings: Settings
    N: int
    samples: int = 1


# One line each.
PRESETS: dict[str, Preset] = {
    "fast": Preset({**RESTORED, "sigma_1": 0.4}, N=3),
    "default": Preset(RESTORED, N=12),
    "best": Preset({**RESTORED, "added_noise": 0.3}, N=15, samples=4),
}
OURS = {name: f"ours, {name}" for name in PRESETS}
TODAY = "DDGM (defaults)"

_SIGMA_1, _SIGMA_N = Real(1.0, 30.0), Real(0.03, 0.5)
_WARM_SIGMA_1 = Real(0.15, 3.0)
_LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_NU2 = Choice((0.003, 0.01, 0.03, 0.1, 0.3))
# Denoiser calls after the restorer's one.
WARM_N = (15, 49)


def _with(run: Run, fixed: Settings) -> Run:
    """A run with some settings fixed, unless they are given."""
    return lambda slab, settings, seed: run(slab, {**fixed, **settings}, seed)


_COLD: dict[str, Method] = {
    "gradient descent": Method(
        stopped(by_gradient), {"steps": steps_up_to(5000)}, {"steps": 100}, sweep=by_gradient
    ),
    "CGLS": Method(stopped(by_cgls), {"steps": steps_up_to(150)}, {"steps": 10}, sweep=by_cgls),
    "SIRT": Method(stopped(by_sirt), {"steps": steps_up_to(1500)}, {"steps": 100}, sweep=by_sirt),
    "WBP": Method(wbp, {"window": Choice(("ram-lak", "cosine", "hann"))}, {"window": "ram-lak"}),
    "TV": Method(tv, {"lam": Choice(_LAMBDAS)}, {"lam": 0.03}),
    "PnP-PGD": Method(
        run_pnp_pgd,
        {"sigma": Real(0.02, 1.0), "step": Real(0.1, 1.95)},
        {"sigma": 0.1, "step": 1.0},
        denoises=True,
    ),
    "DPIR": Method(
        run_dpir,
        {"sigma_1": _SIGMA_1, "sigma_N": _SIGMA_N, "lam": Real(0.01, 10.0)},
        {"sigma_1": 3.0, "sigma_N": 0.1, "lam": 0.23},
        denoises=True,
    ),
    "DDRM": Method(
        run_ddrm,
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
        run_dps,
        {"sigma_1": _SIGMA_1, "sigma_N": _SIGMA_N, "zeta": Real(0.3, 100.0)},
        {"sigma_1": 10.0, "sigma_N": 0.05, "zeta": 5.0},
        denoises=True,
    ),
    "DiffPIR": Method(
        run_diffpir,
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
        run_ddgm,
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


def _exact(method: Method) -> Method:
    """The same with the package's data step, of a number of steps that is searched."""
    space, first = {**method.space, "exact_steps": Whole(1, 4)}, {**method.first, "exact_steps": 4}
    return replace(method, space=space, first=first)


_COLD["DPIR, exact step"] = _exact(_COLD["DPIR"])


def _warm(name: str, N: int) -> Method:
    """A method with a restored start: one call of the restorer, and N of the denoiser."""
    method = _COLD[name]
    space, first = dict(method.space), dict(method.first)
    if "sigma_1" in space:
        space["sigma_1"] = _WARM_SIGMA_1
        first |= {"sigma_1": 0.5, "sigma_N": 0.15}
    if name == "DDGM":
        first["added_noise"] = 0.0
    run = _with(method.run, {"restorer_calls": 1})
    return Method(run, space, first, denoises=True, restores=True, N=N)


def warm_name(name: str, N: int) -> str:
    """Name of a method with a restored start and N denoiser calls after it."""
    return f"{name}, restored start, {N + 1} calls"


def _alone(calls: int, space: Mapping[str, Choice] | None = None, **first: float) -> Method:
    run = _with(restored, {"restorer_calls": calls})
    return Method(run, space or {}, first, restores=True)


METHODS: dict[str, Method] = {
    **_COLD,
    "restorer alone": _alone(1),
    "restorer, one data step": _alone(1, {"nu2": _NU2}, nu2=0.03),
    "restorer, 2 calls": _alone(2),
    "restorer, 4 calls": _alone(4),
    **{
        warm_name(name, N): _warm(name, N)
        for N in WARM_N
        for name in ("PnP-PGD", "DPIR", "DPIR, exact step", "DDRM", "DiffPIR", "DDGM")
    },
}
# Of a preset: all its settings are given.
_PRESET = Method(run_ddgm, {}, {}, denoises=True, restores=True)


def method_of(name: str) -> Method:
    """A method by its name; ours run by their presets."""
    return _PRESET if name in OURS.values() else METHODS[name]


# What runs can be restricted to: methods without networks, those from zero, those with the restorer and
# at most 16 calls, or 50, and the presets.
GROUPS = ("classical", "zero", "restored-16", "restored-50", "ours")


def group_of(name: str) -> str:
    """The group of a method."""
    method = method_of(name)
    if name in OURS.values():
        return "ours"
    if method.restores:
        return "restored-16" if method.N in (None, WARM_N[0]) else "restored-50"
    return "zero" if method.denoises else "classical"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    name, method
        As shown; of `METHODS`, or one of ours.
    N
        Denoiser calls of one sample.
    settings
        The search's when None.
    samples
        Seeds whose mean is scored.
    everywhere
        In every geometry, or in the two of 61 tilts within 60 degrees alone.
    """

    name: str
    method: str
    N: int
    settings: Settings | None = None
    samples: int = 1
    everywhere: bool = True


# Samples differ more, each is a little worse, and their mean is better.
_NOISIER = {**DDGM_DEFAULT, "added_noise": 0.6}
_ALL_NOISE = {**DDGM_DEFAULT, "added_noise": 1.0}


def rows(searched: int) -> list[Row]:
    """All lines; ``searched`` is the N of the search."""
    table = [
        Row(
            name,
            name,
            (m.N or searched) if m.denoises else 0,
            None if m.space else m.first,
        )
        for name, m in METHODS.items()
    ]
    ours = [
        Row(OURS[name], OURS[name], preset.N, preset.settings, preset.samples)
        for name, preset in PRESETS.items()
    ]
    return [
        *table,
        *ours,
        Row(TODAY, "DDGM", searched, DDGM_DEFAULT),
        Row("DDGM, mean of 8", "DDGM", searched, None, 8, everywhere=False),
        Row("DDGM (more noise), mean of 8", "DDGM", searched, _NOISIER, 8, everywhere=False),
        Row("more noise, N = 150, mean of 8", "DDGM", 150, _NOISIER, 8, everywhere=False),
        Row("DDGM (all noise), mean of 8", "DDGM", searched, _ALL_NOISE, 8, everywhere=False),
        Row("all noise, N = 150, mean of 8", "DDGM", 150, _ALL_NOISE, 8, everywhere=False),
        Row("DDGM (defaults), N = 150", "DDGM", 150, DDGM_DEFAULT, everywhere=False),
        Row("DDGM, paper's rule", "DDGM", searched, DDGM_PAPER, everywhere=False),
    ]
