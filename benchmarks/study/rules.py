"""How far to trust noisy data: rules for the gradient phase, those that lose among them.

    python benchmarks/study/rules.py [--only NAME ...] [--quick] [--again] [--show]

DDGM runs with its defaults and another rule for the length of the gradient phase, or for its norm. The
slices are not scored, and are of the tissues of `choice.py`. There are three levels of Gaussian noise,
and of Poisson noise on the thin tissue. N = 50 by default, with one seed. Two rules take the error of
the estimate from the truth, which bounds what a better estimate of it could gain. Figures go to
benchmarks/results/study/rules.json as they come; existing ones are kept without --again. --quick takes
one slice and one level of noise, and writes to the work folder.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cells import NOISES, RESULTS, Cell
from choice import TISSUES
from learned import PROXIMAL_STEPS
from methods import DDGM_DEFAULT
from slabs import Slab, make_slab
from torch import Tensor

from ddgm_dist.algorithm.schedule import IMPUTED_EVERY, noise_levels
from ddgm_dist.baselines.least_squares import proximal, resolvent
from ddgm_dist.operators.slab.basis import norm_squared, step_factor, to_fourier

SEED = 2
FILE = RESULTS / "rules.json"
K, TRUST, ADDED = DDGM_DEFAULT["K"], DDGM_DEFAULT["data_weight_cap"], DDGM_DEFAULT["added_noise"]
# Of DPIR: the weight of the estimate against the data.
LAM = 0.25


@dataclass(frozen=True)
class Case:
    """A tissue at a level of noise."""

    name: str
    cell: Cell


def cases() -> list[Case]:
    """All of them."""
    found = [
        Case(f"{name}, {noise:.0%}", Cell(noise=noise, **keys))
        for name, keys in TISSUES.items()
        for noise in NOISES
    ]
    thin = TISSUES["64 thick"]
    return found + [
        Case(f"64 thick, Poisson {noise:.0%}", Cell(noise=noise, poisson=True, **thin))
        for noise in NOISES
    ]


# -- the loop, with what a rule may change -------------------------------------------------------

Descend = Callable[[Tensor, float], Tensor]
Told = Callable[[Tensor, float], float]


def iterate(slab: Slab, descend: Descend, told: Told | None = None, N: int = 50) -> Tensor:
    """DDGM's loop with a gradient phase ``(x, sigma_n) -> x``, and with what the denoiser is told."""
    sigma = noise_levels("karras", DDGM_DEFAULT["sigma_1"], DDGM_DEFAULT["sigma_N"], N)
    denoise, noise = slab.denoise(SEED), slab.noise(SEED)
    x = torch.zeros(slab.box.shape)
    for n, level in enumerate(sigma):
        x = descend(x, level)
        clean = x
        x = x + ADDED * level * noise(n)
        x = denoise(x, told(clean, level) if told else level, n)
    return x


def capped(slab: Slab, level: float, trust: float = TRUST) -> float:
    """The default: at most K steps, and a flow of at most trust sigma_n^2 / sigma_y^2."""
    return min(K, trust * level**2 / (slab.sigma_y**2 * slab.problem.step_size))


def flow(slab: Slab, x: Tensor, steps: float) -> Tensor:
    x, _ = slab.operator.descend(x, slab.data, steps, slab.problem.step_size)
    return x


def true_error(slab: Slab, x: Tensor) -> float:
    """Root mean square error of an estimate in the prior's unit, inner columns."""
    return math.sqrt(slab.nmse(x)) * float(slab.truth.std()) / slab.problem.intensity.std


# -- rules ---------------------------------------------------------------------------------------


def default(slab: Slab) -> Tensor:
    return iterate(slab, lambda x, level: flow(slab, x, capped(slab, level)))


def uncapped(slab: Slab) -> Tensor:
    return iterate(slab, lambda x, level: flow(slab, x, K))


def discrepancy(slab: Slab) -> Tensor:
    """Steps until the residual is what noise alone would leave (Morozov), at most K."""
    target = slab.sigma_y**2 * float(slab.data.measured.expand_as(slab.data.stretched).sum())

    def descend(x: Tensor, level: float) -> Tensor:
        for _ in range(int(K / 5)):
            if float(slab.operator.residual(x, slab.data).square().sum()) <= target:
                break
            x = flow(slab, x, 5)
        return x

    return iterate(slab, descend)


def damped(slab: Slab) -> Tensor:
    """Levenberg's damping: towards the minimum near the estimate, a solve per imputation.

    By at least a hundredth of the squared norm: with less, what the mask cuts off makes it diverge.
    """
    least = norm_squared(slab.problem.geometry) / 100

    def descend(x: Tensor, level: float) -> Tensor:
        rho, centre = LAM * slab.sigma_y**2 / level**2, x
        for _ in range(int(K / IMPUTED_EVERY)):
            pull = slab.operator.T(slab.operator.residual(x, slab.data))
            x = x + resolvent(slab.operator, pull + rho * (centre - x), max(rho, least))
        return x

    return iterate(slab, descend)


def proximal_map(slab: Slab, steps: int) -> Tensor:
    """As DPIR: the minimum near the estimate, with the mask, by conjugate gradients."""

    def descend(x: Tensor, level: float) -> Tensor:
        rho = LAM * slab.sigma_y**2 / level**2
        return proximal(slab.operator, slab.data, x, rho, iterations=steps)

    return iterate(slab, descend)


def capped_by_error(slab: Slab) -> Tensor:
    """The cap with the true error of the estimate in place of sigma_n."""

    def descend(x: Tensor, level: float) -> Tensor:
        return flow(slab, x, capped(slab, true_error(slab, x)))

    return iterate(slab, descend)


def told_error(slab: Slab) -> Tensor:
    """The denoiser is told the true error, with the noise that is added."""
    return iterate(
        slab,
        lambda x, level: flow(slab, x, capped(slab, level)),
        lambda x, level: math.hypot(true_error(slab, x), ADDED * level),
    )


def whitened(slab: Slab, weights: Tensor) -> Tensor:
    """The flow in the norm of the noise: ``1/2 ||W S (A x - b)||^2``, imputed as the operator does.

    weights: of frequency and tilt, ``(frequency, tilt)``; what is left of the noise is sigma_y.
    """
    operator = slab.operator
    weighted = operator.matrix.double() * weights[:, :, None]
    values, vectors = torch.linalg.eigh(weighted.mT @ weighted)
    values, vectors = values.clamp(min=0), vectors.float()
    step_size = 1 / float(values.max())
    squares = weights.square().float()[:, :, None]

    def descend(x: Tensor, level: float) -> Tensor:
        steps = min(K, TRUST * level**2 / (slab.sigma_y**2 * step_size))
        while steps > 0:
            run = min(steps, IMPUTED_EVERY)
            residual = to_fourier(operator.residual(x, slab.data))
            factor = step_factor(values, run, step_size).float()[:, :, None]
            update = vectors @ (factor * (vectors.mT @ (operator.matrix.mT @ (squares * residual))))
            x = x + operator.from_spectrum(update, x.shape[1])
            steps -= run
        return x

    return iterate(slab, descend)


def by_tilt(slab: Slab) -> Tensor:
    """Each tilt's noise estimated from itself: Poisson's grows with the way through the slab."""
    found, paths = slab.tilt_noise**2, 1 / np.cos(np.array(slab.problem.geometry.angles))
    # Of one tilt the estimate is rough; the truth grows evenly with the path, or not at all.
    fit = np.polynomial.Polynomial.fit(paths, found, 1)(paths)
    weights = torch.from_numpy(np.sqrt(found.mean() / fit.clip(min=0.1 * found.mean())))
    return whitened(slab, weights.expand(slab.operator.matrix.shape[0], -1))


def by_frequency(slab: Slab) -> Tensor:
    """The spectrum that linear interpolation leaves of white noise: 2/3 + cos(k_u)/3."""
    operator = slab.operator
    k = 2 * math.pi * torch.arange(operator.matrix.shape[0], dtype=torch.float64) / operator.length
    cos = torch.cos(torch.tensor(slab.problem.geometry.angles, dtype=torch.float64))
    detector = (k[:, None] / cos).clamp(max=math.pi)
    return whitened(slab, torch.rsqrt(2 / 3 + torch.cos(detector) / 3))


def of_150(slab: Slab, trust: float) -> Tensor:
    return iterate(slab, lambda x, level: flow(slab, x, capped(slab, level, trust)), N=150)


RULES: dict[str, Callable[[Slab], Tensor]] = {
    "capped flow (default)": default,
    "no cap": uncapped,
    "discrepancy principle": discrepancy,
    "damped": damped,
    "proximal, 5 CG": lambda slab: proximal_map(slab, 5),
    f"proximal, {PROXIMAL_STEPS} CG": lambda slab: proximal_map(slab, PROXIMAL_STEPS),
    "whitened by tilt": by_tilt,
    "whitened by frequency": by_frequency,
    "cap by the true error": capped_by_error,
    "denoiser told the true error": told_error,
    "N = 150": lambda slab: of_150(slab, TRUST),
    "N = 150, trust x 50/150": lambda slab: of_150(slab, TRUST / 3),
}


def measure(names: list[str], chosen: list[Case], file: Path, work: Path, *, again: bool) -> None:
    """Run what the file lacks."""
    found = json.loads(file.read_text()) if file.exists() else []
    for case in chosen:
        slab = make_slab(case.cell, work)
        for name in names:
            place = {"rule": name, "case": case.name, "prior": slab.prior}
            old = [r for r in found if place.items() <= r.items()]
            if old and not again:
                continue
            started = time.process_time()
            x = RULES[name](slab)
            error = slab.nmse(x) if bool(torch.isfinite(x).all()) else None  # it diverged
            seconds = round(time.process_time() - started, 2)
            found = [r for r in found if (r["rule"], r["case"]) != (name, case.name)]
            found.append({**place, "nmse": error, "seconds": seconds})
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{case.name} {name}: nmse {error and round(error, 4)}", flush=True)


def show(file: Path, chosen: list[Case]) -> None:
    """As markdown: the default's NMSE, and that of other rules over it; the mean is geometric."""
    found = json.loads(file.read_text()) if file.exists() else []
    errors = {(r["rule"], r["case"]): r["nmse"] or math.inf for r in found}
    names = [name for name in RULES if any((name, case.name) in errors for case in chosen)]
    chosen = [case for case in chosen if all((name, case.name) in errors for name in names)]
    print("| rule | mean | " + " | ".join(case.name for case in chosen) + " |")
    print("| --- " * (2 + len(chosen)) + "|")
    base = next(iter(RULES))
    for name in names:
        line = [errors[name, case.name] for case in chosen]
        if name != base:
            line = [e / errors[base, case.name] for e, case in zip(line, chosen, strict=True)]
        mean = math.exp(float(np.log(line).mean()))
        label = f"{name}: NMSE" if name == base else name
        print(f"| {label} | {mean:.3f} | " + " | ".join(f"{value:.3f}" for value in line) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--quick", action="store_true", help="one slice, one level of noise")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    file, chosen = FILE, cases()
    if args.quick:
        file = args.work / "quick" / "rules.json"
        chosen = [Case("64 thick, 30%", Cell(noise=0.3, rows=(70,)))]
    if not args.show:
        measure(args.only, chosen, file, args.work, again=args.again)
    show(file, chosen)


if __name__ == "__main__":
    main()
