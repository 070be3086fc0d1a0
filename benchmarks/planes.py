"""The effect of denoising several planes in turn on a reconstruction of real tissue.

    python benchmarks/planes.py [--data DIR] [--out FILE] [--rows 96] [--noise 0.05 1.0]

A slab of the FIB-SEM validation cube, 64 thick, a field of 250, tilts within 60 degrees; the defaults
but for `planes`. Scores are for the region whose rays are all measured. Figures go to
benchmarks/results/planes.json after each run; runs that are in it are not repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from quality import inner, surround
from skimage.metrics import structural_similarity

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.readers.volumes import open_volume

HERE = Path(__file__).resolve().parent
N = ProblemConfig().N
TURN = ("zx", "zy", "yx")
EXPERIMENTS: dict[str, dict] = {
    "zx": {"planes": ("zx",)},
    "zx,zy,yx": {"planes": TURN},
    "zx,zy": {"planes": ("zx", "zy")},
    "zx,yx": {"planes": ("zx", "yx")},
    "zx, in turn from the middle on": {"planes": ("zx",) * (N // 2) + TURN * (N // 6 + 1)},
    "zx,zy,yx, windows of 64 rows": {"planes": TURN, "window_rows": 64, "overlap_rows": 16},
}
# Cycles per voxel that bound the bands of the spectrum along y.
BANDS = {"below 1/16": (0.0, 1 / 16), "1/16 to 1/4": (1 / 16, 1 / 4), "above 1/4": (1 / 4, 0.51)}


def scores(found: np.ndarray, truth: np.ndarray) -> dict:
    """Errors and smoothness of a region, both ``(z, y, x)``."""
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    error = found - truth
    span = float(truth.max() - truth.min())
    ssim = {}
    for plane, axis in {"zx": 1, "zy": 2, "yx": 0}.items():
        pairs = zip(np.moveaxis(found, axis, 0), np.moveaxis(truth, axis, 0), strict=True)
        ssim[plane] = float(
            np.mean(
                [
                    structural_similarity(
                        b, a, data_range=span, gaussian_weights=True, use_sample_covariance=False
                    )
                    for a, b in pairs
                ]
            )
        )
    return {
        "mse": float(np.mean(error**2)),
        "nmse": float(np.mean(error**2) / truth.var()),
        "ssim": ssim,
        # Mean squared difference of neighbours, as a fraction of the truth's.
        "roughness": {
            name: float(np.mean(np.diff(found, axis=axis) ** 2))
            / float(np.mean(np.diff(truth, axis=axis) ** 2))
            for axis, name in enumerate("zyx")
        },
        # How much of the error changes from row to row: 1 if rows err independently.
        "row_error": float(np.mean(np.diff(error, axis=1) ** 2) / (2 * np.mean(error**2))),
        "power_y": power_ratios(found, truth),
    }


def power_ratios(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Power along y as a fraction of the truth's, by band of frequency."""
    frequency = np.fft.rfftfreq(found.shape[1])
    taper = np.hanning(found.shape[1])[:, None]
    power = [
        np.mean(np.abs(np.fft.rfft((v - v.mean()) * taper, axis=1)) ** 2, axis=(0, 2))
        for v in (found, truth)
    ]
    ratios = {}
    for name, (low, high) in BANDS.items():
        band = (frequency >= low) & (frequency < high)
        ratios[name] = float(power[0][band].sum() / power[1][band].sum())
    return ratios


def case(truth: np.ndarray, noise: float, work: Path, done: list[dict], out: Path) -> None:
    """All experiments at one noise level; appends to ``done`` and writes it."""
    tilts, field = work / f"tilts-{noise}.zarr", 250
    dd.simulate(
        surround(truth, field), tilts, noise=f"gaussian:{noise}", field=field, overwrite=True
    )
    box = inner(tilts)
    region = tuple(slice(*map(int, part.split(":"))) for part in box.split(","))
    for name, keys in EXPERIMENTS.items():
        what = {"planes": name, "noise": noise, "rows": truth.shape[1], "region": box}
        if any(all(row.get(key) == what[key] for key in what) for row in done):
            continue
        started, spent = time.perf_counter(), time.process_time()
        result = dd.reconstruct(tilts, work / "out.zarr", keys, "local", overwrite=True)
        found = result.volume().read(Box((0, 0, 0), result.plan.shape))
        row = {
            **what,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - spent,
            **scores(found[region], truth[region]),
        }
        done.append(row)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(done, indent=1) + "\n")
        show([row])


def show(rows: list[dict]) -> None:
    """Print one line per row."""
    for row in rows:
        ssim, rough = row["ssim"], row["roughness"]
        print(
            f"{row['noise']:>5.0%}  {row['planes']:<32}NMSE {row['nmse']:.4f}  SSIM zx {ssim['zx']:.3f}"
            f" zy {ssim['zy']:.3f} yx {ssim['yx']:.3f}  roughness z {rough['z']:.2f} y {rough['y']:.2f}"
            f" x {rough['x']:.2f}  row error {row['row_error']:.2f}  {row['cpu_seconds']:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "planes.json")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05, 1.0])
    parser.add_argument("--only", nargs="+", metavar="PLANES", help="names of experiments")
    args = parser.parse_args()
    for name in set(EXPERIMENTS) - set(args.only or EXPERIMENTS):
        del EXPERIMENTS[name]
    cube = open_volume(args.data / "fibsem_medulla" / "val")
    first = (250 - args.rows) // 2
    truth = cube.read(Box((93, first, 0), (157, first + args.rows, 250)))
    done = json.loads(args.out.read_text()) if args.out.exists() else []
    with tempfile.TemporaryDirectory(prefix="ddgm-planes-") as work:
        for noise in args.noise:
            case(truth, noise, Path(work), done, args.out)
    print()
    show(done)


if __name__ == "__main__":
    main()
