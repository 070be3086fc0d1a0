"""Are the samples' deviations honest, and how good is their mean? On real tissue.

    python benchmarks/uncertainty.py [--data DIR] [--work DIR] [--quick]

Held-back FIB-SEM slabs are reconstructed with `samples: 8`, and judged where all rays are measured. One
figure is how often the truth lies within k standard deviations of the mean. The other is the squared
error of the mean of 1, 2, 4 and 8 samples. It is compared with the best classical method, with the best
settings for the truth. Figures go to benchmarks/results/uncertainty.json (not those of --quick).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.stats
from quality import inner, surround

import ddgm_dist as dd
from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.sirt import sirt
from ddgm_dist.baselines.total_variation import total_variation
from ddgm_dist.baselines.wbp import weighted_back_projection
from ddgm_dist.core.box import Box
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.planning.config import parse_config
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.tilts.rows import read_rows

HERE = Path(__file__).resolve().parent
FIELD, NOISES, FACTORS = 400, (0.05, 1.0), (1, 2, 3)
# First rows of the slabs: of those from which the defaults were chosen (256, 257) none is among them.
ROWS = (260, 100)
# The default adds 0.3 of each noise level, which makes good single volumes; the paper adds all of it.
VARIANTS: dict[str, dict] = {
    "defaults": {},
    "added_noise = 0.6": {"added_noise": 0.6},
    "added_noise = 1": {"added_noise": 1.0},
}
DESCENT = (3, 5, 7, 10, 15, 25, 50, 100, 200, 400, 800, 1600)
CGLS = tuple(range(1, 41))
SIRT = (5, 10, 15, 20, 30, 50, 100, 200, 400, 800)
WEIGHTS, TV_STEPS = tuple(10.0 ** (k / 4) for k in range(-2, 11)), 100


def slab(data: Path, row: int) -> np.ndarray:
    """64 thick, two rows, mirrored beyond the volume's ends."""
    train = open_volume(data / "fibsem_medulla" / "train")
    return surround(train.read(Box((352, row, 0), (416, row + 2, 520))), FIELD)


def estimates(tilts: Path) -> Iterator[tuple[str, float, np.ndarray]]:
    """Name, setting and volume of each classical reconstruction, in the data's unit."""
    built = build_problem(tilts, parse_config(None).problem())
    problem, series = built.problem, built.series
    geometry, intensity = problem.geometry, problem.intensity
    operator = SlabOperator(geometry)
    data = operator.prepare(
        *read_rows(series, geometry, intensity, 0, geometry.rows, screen=problem.screen)
    )
    first = -geometry.domain[0]

    def shown(x):
        return intensity.restore(x[..., first : first + geometry.field]).numpy()

    for K, x in gradient_descent(operator, data, DESCENT, problem.step_size):
        yield "gradient descent", K, shown(x)
    for K, x in cgls(operator, data, CGLS):
        yield "CGLS", K, shown(x)
    for K, x in sirt(operator, data, SIRT):
        yield "SIRT", K, shown(x)
    for window in ("ram-lak", "cosine", "hann"):
        yield f"WBP, {window}", 0, shown(weighted_back_projection(operator, data, window=window))
    for weight in WEIGHTS:
        ((_, state),) = total_variation(operator, data, (TV_STEPS,), weight)
        yield "TV", weight, shown(state.x)


def classical(tilts: Path, truth: np.ndarray, region: tuple[slice, ...]) -> dict:
    """The least squared error of each method, and the setting that has it."""
    found: dict[str, dict] = {}
    for name, setting, volume in estimates(tilts):
        mse = float(np.square(volume[region] - truth, dtype=np.float64).mean())
        if name not in found or mse < found[name]["mse"]:
            found[name] = {"mse": mse, "setting": setting}
    return found


def errors_of_means(samples: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean squared error of the mean of n samples: of as many groups of n as there are, their mean."""
    found = {}
    for n in (1, 2, 4, 8, 16):
        if n <= len(samples):
            groups = [samples[i : i + n].mean(0) for i in range(0, len(samples) - n + 1, n)]
            found[str(n)] = float(np.mean([np.square(g - truth).mean() for g in groups]))
    return found


def calibration(mean: np.ndarray, std: np.ndarray, truth: np.ndarray, S: int) -> dict:
    """Coverage, and what the deviation says of the error.

    If truth and samples were drawn from one distribution, ``(truth - mean) / (std sqrt(1 + 1/S))`` would
    have Student's t distribution of S - 1 degrees of freedom: `expected`.
    """
    error, wider = np.abs(truth - mean), math.sqrt(1 + 1 / S)
    t = scipy.stats.t(S - 1)
    coverage = {
        str(k): {
            "plain": float((error <= k * std).mean()),
            "plain_expected": float(2 * t.cdf(k / wider) - 1),
            "corrected": float((error <= k * wider * std).mean()),
            "expected": float(2 * t.cdf(k) - 1),
        }
        for k in FACTORS
    }
    edges = np.quantile(std, np.linspace(0, 1, 6))
    fifth = np.clip(np.searchsorted(edges, std, side="right") - 1, 0, 4)
    bins = [
        {
            "std": float(np.sqrt(np.square(std[fifth == i]).mean())),
            "error": float(np.sqrt(np.square(error[fifth == i]).mean())),
        }
        for i in range(5)
    ]
    # The one factor with which deviations would cover 68.3 % of the truth, and 95.4 %.
    ratio = error / np.maximum(std, 1e-12)
    return {
        "coverage": coverage,
        "rms_error": float(np.sqrt(np.square(error).mean())),
        "rms_std": float(np.sqrt(np.square(std).mean())),
        "rank_correlation": float(scipy.stats.spearmanr(error.ravel(), std.ravel()).statistic),
        "factor_68": float(np.quantile(ratio, 0.6827)),
        "factor_95": float(np.quantile(ratio, 0.9545)),
        "by_fifth_of_std": bins,
    }


def case(data: Path, row: int, noise: float, S: int, work: Path, variant: str) -> dict:
    """One slab at one level of noise."""
    volume, tilts = slab(data, row), work / "tilts.zarr"
    dd.simulate(volume, tilts, noise=f"gaussian:{noise}", field=FIELD, overwrite=True)
    z, y, x = ((int(a) for a in part.split(":")) for part in inner(tilts).split(","))
    region = tuple(slice(*part) for part in (z, y, x))
    first = (volume.shape[2] - FIELD) // 2
    truth = volume[..., first : first + FIELD][region].astype(np.float64)
    started = time.perf_counter()
    keys = {"samples": S, "keep_samples": True, **VARIANTS[variant]}
    result = dd.reconstruct(tilts, work / "out.zarr", keys, "local", overwrite=True)
    seconds = time.perf_counter() - started
    mean, std = (result.to_dask(what).compute()[region] for what in ("mean", "std"))
    samples = np.stack([result.to_dask(k).compute()[region].astype(np.float64) for k in range(S)])
    means, variance = errors_of_means(samples, truth), float(np.square(std).mean())
    methods = classical(tilts, truth, region)
    best = min(methods, key=lambda name: methods[name]["mse"])
    return {
        "rows": [row, row + 2],
        "noise": noise,
        "variant": variant,
        "samples": S,
        "voxels": truth.size,
        "truth_variance": float(truth.var()),
        "seconds": seconds,
        "mse_of_mean_of": means,
        # Of infinitely many: the squared error of the mean of S holds 1/S of the variance.
        "mse_in_the_limit": means[str(S)] - variance / S,
        "classical": methods,
        "best_classical": best,
        "ratio_to_best_classical": {n: mse / methods[best]["mse"] for n, mse in means.items()},
        **calibration(mean.astype(np.float64), std.astype(np.float64), truth, S),
    }


def show(cases: list[dict]) -> None:
    """A line per case and table."""
    for found in cases:
        print(f"rows {found['rows'][0]}, noise {found['noise']:.0%}, {found['variant']}")
        best = found["best_classical"]
        setting = found["classical"][best]
        print(f"  best classical: {best} ({setting['setting']:g}), MSE {setting['mse']:.1f}")
        for n, ratio in found["ratio_to_best_classical"].items():
            print(f"  mean of {n}: MSE {found['mse_of_mean_of'][n]:.1f}, ratio {ratio:.3f}")
        for k, row in found["coverage"].items():
            print(
                f"  {k} std: {row['plain']:.3f} (expected {row['plain_expected']:.3f}), corrected "
                f"{row['corrected']:.3f} ({row['expected']:.3f})"
            )
        print(f"  rms error {found['rms_error']:.2f}, rms std {found['rms_std']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, help="keep intermediate stores here")
    parser.add_argument("--out", type=Path, help="results/uncertainty.json; in --work with --quick")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one slab only")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="ddgm-uncertainty-"))
    work.mkdir(parents=True, exist_ok=True)
    out = args.out or (work if args.quick else HERE / "results") / "uncertainty.json"
    cases: list[dict] = []
    try:
        rows = ROWS[:1] if args.quick else ROWS
        for row, noise, variant in itertools.product(rows, NOISES, VARIANTS):
            cases.append(case(args.data, row, noise, args.samples, work, variant))
            out.write_text(json.dumps(cases, indent=1) + "\n")
            show(cases[-1:])
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
