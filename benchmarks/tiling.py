"""The cost and effect of tiles: the paper's width run to the end, and the seams of tiles along x.

python benchmarks/tiling.py wide [--work DIR]     128 x 16 x 1568 voxels, the timing summary
python benchmarks/tiling.py seams [--work DIR]    128 x 4 x 1568, tiles along x against one tile
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.simulation.phantom import TissuePhantom

HERE = Path(__file__).resolve().parent


def wide(work: Path) -> dict:
    """The paper's width, on procedural tissue that goes on beyond the field."""
    thickness, rows, field = 128, 16, 1568
    truth = TissuePhantom((thickness, rows, field + 240), seed=3)
    tilts, out = work / "wide-tilts.zarr", work / "wide.zarr"
    dd.simulate(truth, tilts, noise="gaussian:0.05", field=field, overwrite=True)
    print(dd.plan(tilts).describe())
    result = dd.reconstruct(tilts, out, engine="local", overwrite=True, progress=True)
    print(result.describe())
    scores = dd.evaluate(out, truth).to_dict()
    print(scores)
    return {
        "shape": [thickness, rows, field],
        "wall_seconds": result.wall_seconds,
        "worker_seconds": result.seconds,
        "gradient_share": result.gradient_share,
        **scores,
    }


def seams(work: Path, noise: float = 0.05) -> list[dict]:
    """Tiles along x against one tile, near the cuts and elsewhere; 128 x 4 x 1568 voxels.

    *seam_ratio* is the mean absolute difference from the volume of one tile within 16 voxels of the
    cuts, over that elsewhere. *error_ratio* is this ratio of the absolute error, over that of one
    tile in the same columns. Columns whose rays are not all measured are left out.
    """
    thickness, rows, field = 128, 4, 1568
    truth = TissuePhantom((thickness, rows, field + 240), seed=4)
    tilts = work / "seam-tilts.zarr"
    dd.simulate(truth, tilts, noise=f"gaussian:{noise}", field=field, overwrite=True)
    config = {"rows_per_call": 1}
    whole = dd.reconstruct(tilts, work / "whole.zarr", config, "local", overwrite=True)
    one = read(whole)
    tissue = truth.read(Box((0, 0, 120), (thickness, rows, 120 + field)))
    reach = int(np.ceil(thickness / 2 * np.tan(np.deg2rad(60))))
    inner = np.zeros(field, dtype=bool)
    inner[reach : field - reach] = True
    found = [{"tiles": 1, "nmse": nmse(one, tissue, inner)}]
    for columns in (784, 524, 392):
        result = dd.reconstruct(
            tilts, work / "cut.zarr", {**config, "tile_columns": columns}, "local", overwrite=True
        )
        cut = read(result)
        difference, wrong, before = np.abs(cut - one), np.abs(cut - tissue), np.abs(one - tissue)
        cuts = sorted({t.write_box.start[2] for t in result.plan.tiles} - {0})
        near = np.zeros(field, dtype=bool)
        for x in cuts:
            near[x - 16 : x + 16] = True
        near, far = near & inner, ~near & inner
        line = {
            "tiles": len(cuts) + 1,
            "psnr": float(20 * np.log10(np.ptp(one) / np.sqrt((difference**2).mean()))),
            "seam_ratio": float(difference[..., near].mean() / difference[..., far].mean()),
            "error_ratio": float(wrong[..., near].mean() / before[..., near].mean()),
            "nmse": nmse(cut, tissue, inner),
        }
        found.append(line)
        print(line, flush=True)
    return found


def nmse(volume: np.ndarray, truth: np.ndarray, columns: np.ndarray) -> float:
    """Mean squared error over the truth's variance, of some columns."""
    a, b = volume[..., columns], truth[..., columns]
    return float(((a - b) ** 2).mean() / b.var())


def read(result) -> np.ndarray:
    z, y, x = result.plan.shape
    return result.volume().read(Box((0, 0, 0), (z, y, x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("wide", "seams"))
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ddgm-tiling-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        figures = wide(work) if args.what == "wide" else seams(work)
    out = HERE / "results" / f"{args.what}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
