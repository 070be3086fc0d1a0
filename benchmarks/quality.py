"""Reconstruction quality on real tissue: DDGM with its shipped defaults against gradient descent.

    python benchmarks/quality.py [--data DIR] [--work DIR] [--quick]

Tilt series are simulated from FIB-SEM tissue that the shipped denoiser was not trained on, and
reconstructed. The table is printed, and figures go to benchmarks/results/quality.json (not those of
--quick). The rows "DDGM (defaults)" use the defaults, with no setting per case.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.demo.descent_only import descend_only
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.tilts.series import open_tilt_series

HERE = Path(__file__).resolve().parent
PAPER = {
    "step_rule": "paper",
    "schedule": "exponential",
    "K": 25,
    "sigma_1": 3.0,
    "sigma_N": 0.03,
    "added_noise": 1.0,
}
EXPERIMENTS = {
    "DDGM (defaults)": {},
    "fast": {"preset": "fast"},
    "best": {"preset": "best"},
    "DDGM, paper's rule": PAPER,
}


def specimens(data: Path) -> dict[str, tuple[list[np.ndarray], int]]:
    """Name -> slabs (z, y, x) wider than the recorded field, and the field."""
    return {name: (slabs, field) for name, slabs, field in _specimens(data)}


def _specimens(data: Path) -> Iterator[tuple[str, list[np.ndarray], int]]:
    train = open_volume(data / "fibsem_medulla" / "train")
    val = open_volume(data / "fibsem_medulla" / "val")
    kept_out = train.read(Box((352, 0, 0), (416, 520, 520)))
    cube = val.read(Box((0, 0, 0), (250, 250, 250)))
    thick = kept_out.transpose(1, 0, 2)  # thickness along the volume's y, rows along its z
    # The field's inner part is only 88 columns wide in the cube: one slab says little.
    slabs = [cube[z : z + 64, 121:129] for z in (0, 93, 186)]
    slab = kept_out[:, 256:264]
    thicker = np.ascontiguousarray(thick[196:324, 28:36])
    yield "medulla z 352-415, 64 thick", [surround(slab, 400)], 400
    yield "validation cube, 3 slabs, 64 thick", [surround(s, 200) for s in slabs], 200
    yield "the same, vacuum beyond 250", slabs, 200
    yield "medulla, 128 thick", [surround(thicker, 400)], 400


def rows_of_case(
    name: str, slabs: list[np.ndarray], field: int, noise: float, work: Path
) -> list[dict]:
    """All methods on the tilt series of a specimen; figures are means over its slabs."""
    found: dict[str, list[dict]] = {}
    for volume in slabs:
        tilts = work / "tilts.zarr"
        dd.simulate(volume, tilts, noise=f"gaussian:{noise}", field=field, overwrite=True)
        region = inner(tilts)
        for K, descended in descend_only(tilts).items():
            scores = dd.evaluate(descended, volume, inner=region).to_dict()
            found.setdefault(f"gradient descent, K = {K}", []).append(scores)
        for method, config in EXPERIMENTS.items():
            started = time.perf_counter()
            result = dd.reconstruct(tilts, work / "out.zarr", config, "local", overwrite=True)
            scores = dd.evaluate(work / "out.zarr", volume, inner=region).to_dict()
            scores["seconds"] = time.perf_counter() - started
            scores["gradient_share"] = result.gradient_share
            found.setdefault(method, []).append(scores)
    rows = [mean_row(name, noise, method, scores) for method, scores in found.items()]
    descents = [row for row in rows if row["method"].startswith("gradient")]
    best = min(descents, key=lambda row: row["mse"])
    for row in rows:
        row["ratio"] = row["mse"] / best["mse"]
        row["best_descent"] = row is best
        row["ssim_above_any_descent"] = row["ssim"] > max(r["ssim"] for r in descents)
    return rows


def mean_row(name: str, noise: float, method: str, scores: list[dict]) -> dict:
    """Means over slabs; ``nmse`` is the summed error over the summed variance."""
    variance = sum(s["mse"] / s["nmse"] for s in scores)
    return {
        "specimen": name,
        "noise": noise,
        "method": method,
        "mse": float(np.mean([s["mse"] for s in scores])),
        "nmse": sum(s["mse"] for s in scores) / variance,
        "psnr": float(np.mean([s["psnr"] for s in scores])),
        "ssim": float(np.mean([s["ssim"] for s in scores])),
        "seconds": sum(s.get("seconds", 0.0) for s in scores),
        "gradient_share": scores[0].get("gradient_share"),
        "slabs": [{"nmse": s["nmse"], "ssim": s["ssim"]} for s in scores],
    }


def surround(volume: np.ndarray, field: int) -> np.ndarray:
    """Mirror the slab at its ends until no recorded ray leaves it sideways.

    The specimens are cut out of a larger tissue. Without the mirror the steepest rays near the edges
    of the field would cross a vacuum that no section has.
    """
    thickness, _, width = volume.shape
    steepest = np.deg2rad(60)
    needed = int(np.ceil(field / np.cos(steepest) + thickness * np.tan(steepest))) + 4
    pad = max(0, (needed - width + 1) // 2)
    return np.pad(volume, ((0, 0), (0, 0), (pad, pad)), mode="symmetric")


def inner(tilts: Path) -> str:
    """The region whose rays are all measured: x trimmed by the reach on each side."""
    series = open_tilt_series(tilts)
    _, rows, field = series.shape
    thickness = series.meta.thickness_px
    steepest = np.deg2rad(max(abs(a) for a in series.meta.angles_deg))
    reach = int(np.ceil(thickness / 2 * np.tan(steepest)))
    return f"0:{thickness},0:{rows},{reach}:{field - reach}"


def show(rows: list[dict]) -> None:
    """The best gradient descent and every DDGM row."""
    print(f"{'specimen':<36}{'noise':>6}  {'method':<28}{'NMSE':>8}{'ratio':>7}{'SSIM':>7}{'s':>6}")
    for row in rows:
        if row["best_descent"] or not row["method"].startswith("gradient"):
            seconds = f"{row['seconds']:.0f}" if row["seconds"] else ""
            print(
                f"{row['specimen']:<36}{row['noise']:>6.0%}  {row['method']:<28}"
                f"{row['nmse']:>8.4f}{row['ratio']:>7.3f}{row['ssim']:>7.3f}{seconds:>6}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, help="keep intermediate stores here")
    parser.add_argument("--out", type=Path, help="results/quality.json; in --work with --quick")
    parser.add_argument("--quick", action="store_true", help="64 thick, without the paper's rule")
    args = parser.parse_args()
    if args.quick:
        del EXPERIMENTS["DDGM, paper's rule"]
    work = args.work or Path(tempfile.mkdtemp(prefix="ddgm-quality-"))
    work.mkdir(parents=True, exist_ok=True)
    out = args.out or (work if args.quick else HERE / "results") / "quality.json"
    rows: list[dict] = []
    try:
        for name, (slabs, field) in specimens(args.data).items():
            if args.quick and "128" in name:
                continue
            for noise in (0.05, 1.0):
                rows += rows_of_case(name, slabs, field, noise, work)
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    show(rows)


if __name__ == "__main__":
    main()
