"""Settings that `tune` chooses without the truth, against the best settings for the truth.

    python benchmarks/tune.py [--data DIR] [--work DIR] [--only NAME ...]

Tilt series are simulated from FIB-SEM tissue that the shipped denoiser was not trained on. `tune`
chooses among a few candidates, and every candidate reconstructs from all tilts, to compare with the
truth. The cases are a slab at three levels of noise, and one in vacuum that the operator does not
expect. There the defaults are not good. A table is printed for each; figures go to
benchmarks/results/tune.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from quality import inner, surround

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.planning.config import parse_config
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.tuning.candidates import expand_grid

HERE = Path(__file__).resolve().parent
# Far from each other, and from those that the defaults were chosen on.
ROWS, FIELD = (60, 180, 330, 450), 320
CASES: dict[str, tuple[float, bool]] = {  # noise, whether vacuum surrounds it
    "5%": (0.05, False),
    "30%": (0.3, False),
    "100%": (1.0, False),
    "5%, vacuum beyond": (0.05, True),
}
BASE = {"N": 10}
GRID = [
    {"K": [25, 400]},
    {"data_weight_cap": [1.0, 10.0]},
    {"K": [25], "data_weight_cap": [1.0]},
    {"added_noise": [1.0]},
    {"sigma_1": [1.0]},
    {"sigma_N": [0.5]},
    {
        "step_rule": ["paper"],
        "schedule": ["exponential"],
        "K": [25],
        "sigma_1": [3.0],
        "sigma_N": [0.03],
        "added_noise": [1.0],
    },
    {"N": [5]},
]


def specimen(data: Path, *, vacuum: bool) -> tuple[np.ndarray, int]:
    """A slab (z, y, x) 64 thick whose rows lie apart, and the field."""
    if vacuum:  # rays of the field leave it 25 columns beyond
        val = open_volume(data / "fibsem_medulla" / "val")
        cube = val.read(Box((93, 0, 0), (157, 250, 250)))
        return np.stack([cube[:, row] for row in (30, 90, 150, 220)], axis=1), 200
    train = open_volume(data / "fibsem_medulla" / "train")
    kept_out = train.read(Box((352, 0, 0), (416, 520, 520)))
    return surround(np.stack([kept_out[:, row] for row in ROWS], axis=1), FIELD), FIELD


def level(name: str, data: Path, work: Path) -> dict:
    """The choice, and what the truth says of every candidate."""
    noise, vacuum = CASES[name]
    volume, field = specimen(data, vacuum=vacuum)
    tilts, out = work / "tilts.zarr", work / "out.zarr"
    dd.simulate(volume, tilts, noise=f"gaussian:{noise}", field=field, overwrite=True)
    started = time.process_time()
    tuning = dd.tune(tilts, BASE, grid=GRID, blocks=len(ROWS), rows=1, report=print)
    seconds = time.process_time() - started
    print(tuning.describe(), flush=True)
    truth = {}
    for candidate in expand_grid(GRID, parse_config(BASE)).candidates:
        dd.reconstruct(tilts, out, candidate.config, "local", overwrite=True)
        truth[candidate.name] = dd.evaluate(out, volume, inner=inner(tilts)).nmse
    best = min(truth, key=lambda name: truth[name])
    rows = [row.to_dict() | {"nmse": truth[row.name]} for row in tuning.rows]
    return {
        "case": name,
        "noise": noise,
        "chosen": tuning.chosen.name,
        "oracle": best,
        "chosen_nmse": truth[tuning.chosen.name],
        "oracle_nmse": truth[best],
        "given_nmse": truth["as given"],
        "ratio": truth[tuning.chosen.name] / truth[best],
        "denoiser_calls": tuning.calls,
        "cpu_seconds": seconds,
        "candidates": rows,
    }


def show(found: dict) -> None:
    given = found["given_nmse"] / found["oracle_nmse"]
    print(f"{found['case']}: chosen {found['chosen']}, by the oracle {found['oracle']}")
    print(f"  MSE {found['ratio']:.3f} of the oracle's; the settings as given {given:.3f}")
    for row in found["candidates"]:
        print(f"  {row['name']:<44} {row['blocks']} {row['error']:8.4f} {row['nmse']:8.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, help="keep intermediate stores here")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tune.json")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work or Path(tempfile.mkdtemp(prefix="ddgm-tune-"))
    work.mkdir(parents=True, exist_ok=True)
    levels: list[dict] = []
    try:
        for name in args.only:
            levels.append(level(name, args.data, work))
            show(levels[-1])
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(levels, indent=1) + "\n")
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
