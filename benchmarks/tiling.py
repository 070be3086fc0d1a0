"""What tiles cost and change: the paper's width run to the end, and the seams of tiles along x.

python benchmarks/tiling.py wide [--work DIR]     128 x 16 x 1568 voxels, the timing summary
python benchmarks/tiling.py seams [--work DIR]    tiles along x against one tile
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import ddgm_dist as dd

HERE = Path(__file__).resolve().parent


def wide(work: Path) -> dict:
    """The paper's width, on procedural tissue that goes on beyond the field."""
    thickness, rows, field = 128, 16, 1568
    truth = dd.TissuePhantom((thickness, rows, field + 240), seed=3)
    tilts, out = work / "wide-tilts.zarr", work / "wide.zarr"
    dd.simulate(truth, tilts, noise="gaussian:0.05", field=field, overwrite=True)
    print(dd.make_plan(tilts).describe())
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
    """Mean absolute difference near the cuts and elsewhere, for two to four tiles along x."""
    thickness, rows, field = 64, 4, 640
    truth = dd.TissuePhantom((thickness, rows, field + 120), seed=4)
    tilts = work / "seam-tilts.zarr"
    dd.simulate(truth, tilts, noise=f"gaussian:{noise}", field=field, overwrite=True)
    whole = dd.reconstruct(tilts, work / "whole.zarr", engine="local", overwrite=True)
    one = read(whole)
    found = []
    for columns in (320, 224, 160):
        config = {"tile_columns": columns}
        result = dd.reconstruct(tilts, work / "cut.zarr", config, "local", overwrite=True)
        error = np.abs(read(result) - one)
        cuts = sorted({t.write_box.start[2] for t in result.plan.tiles} - {0})
        near = np.zeros(field, dtype=bool)
        for cut in cuts:
            near[cut - 16 : cut + 16] = True
        psnr = 20 * np.log10(np.ptp(one) / np.sqrt((error**2).mean()))
        ratio = error[..., near].mean() / error[..., ~near].mean()
        found.append({"tiles": len(cuts) + 1, "psnr": float(psnr), "seam_ratio": float(ratio)})
        print(f"{len(cuts) + 1} tiles along x: PSNR {psnr:.1f} dB against one tile; mean absolute")
        print(f"  difference within 16 voxels of the seams {ratio:.2f} times elsewhere", flush=True)
    return found


def read(result) -> np.ndarray:
    z, y, x = result.plan.shape
    return result.volume().read(dd.Box((0, 0, 0), (z, y, x)))


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
