"""The choice of DDGM's defaults and of the presets: one change at a time, on slices that are not scored.

    python benchmarks/study/choice.py [--only NAME ...] [--again] [--show]

The slices are four of the thin tissue, two of the thick, and two of the validation cube. The cube has
vacuum beyond its ends, which the operator does not expect. There are three levels of noise and one seed.
N = 50, or as the change names it; with a restored start the changes are those of the preset `default`.
The criterion is the geometric mean of the error over levels and tissues, if no tissue gets
worse. Figures go to benchmarks/results/study/choice.json as they come; existing ones are kept without
--again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from cells import NOISES, RESULTS, Cell
from methods import DDGM_DEFAULT, METHODS, PRESETS
from slabs import make_slab

SEED = 2
FILE = RESULTS / "choice.json"
TISSUES = {
    "64 thick": {"rows": (70, 210, 290, 430)},
    "128 thick": {"rows": (60_355, 330_355), "specimen": "thick", "thickness": 128},
    "vacuum beyond": {
        "rows": (250 * 128 + 60, 250 * 128 + 190),
        "specimen": "cube",
        "field": 200,
        "vacuum": True,
    },
}
CHANGES: dict[str, dict] = {
    "defaults": {},
    **{f"K = {K}": {"K": float(K)} for K in (25, 50, 100, 200)},
    **{f"trust = {t}": {"data_weight_cap": float(t)} for t in (2, 4)},
    **{f"added noise {a}": {"added_noise": a} for a in (0.1, 0.2, 0.5)},
    **{f"sigma_1 = {s}": {"sigma_1": float(s)} for s in (3, 10)},
    **{f"sigma_N = {s}": {"sigma_N": s} for s in (0.1, 0.3)},
    **{shape: {"schedule": shape} for shape in ("exponential", "cosine")},
}
# With a restored start: changes of the preset.
_PRESET = {**PRESETS["default"].settings, "N": PRESETS["default"].N}
CHANGES |= {
    name: {**_PRESET, **change}
    for name, change in {
        "restored": {},
        **{f"restored, N = {N}": {"N": N} for N in (2, 3, 6, 15, 30)},
        **{f"restored, {k} calls of the restorer": {"restorer_calls": k} for k in (2, 4)},
        **{f"restored, sigma_1 = {s}": {"sigma_1": s} for s in (0.3, 1.0, 2.0)},
        **{f"restored, sigma_N = {s}": {"sigma_N": s} for s in (0.1, 0.2)},
        **{f"restored, added noise {a}": {"added_noise": a} for a in (0.3, 0.6)},
        **{f"restored, trust = {t}": {"data_weight_cap": t} for t in (1.0, 10.0)},
    }.items()
}


def run(name: str, found: list[dict], work: Path, *, again: bool) -> None:
    """Run what is missing of a change, or all of it; ``found`` grows, and the file with it."""
    for tissue, keys in TISSUES.items():
        for noise in NOISES:
            slab = make_slab(Cell(noise=noise, **keys), work)
            settings = {**DDGM_DEFAULT, "N": 50, **CHANGES[name]}
            place = {"tissue": tissue, "rows": list(slab.cell.rows), "noise": noise}
            place |= {"settings": settings, "prior": slab.prior}
            if "restorer_calls" in settings:
                place["restorer"] = slab.restored_by
            old = [r for r in found if place.items() <= r.items()]
            if old and not again:
                continue
            error = slab.nmse(METHODS["DDGM"].run(slab, settings, SEED))
            same = {k: place[k] for k in ("tissue", "noise", "settings")}
            found[:] = [r for r in found if not same.items() <= r.items()]
            found.append({**place, "nmse": error})
            FILE.write_text(json.dumps(found, indent=1) + "\n")


def show(found: list[dict]) -> None:
    """As markdown: errors, and their geometric mean over all tissues and levels of noise."""
    print("| change | all | " + " | ".join(f"{t}, {n:.0%}" for t in TISSUES for n in NOISES) + " |")
    print("| --- " * (2 + len(TISSUES) * len(NOISES)) + "|")
    for name, change in CHANGES.items():
        settings = {**DDGM_DEFAULT, "N": 50, **change}
        errors = [
            next(
                (
                    r["nmse"]
                    for r in found
                    if (r["tissue"], r["noise"], r["settings"]) == (tissue, noise, settings)
                ),
                np.nan,
            )
            for tissue in TISSUES
            for noise in NOISES
        ]
        if not np.isnan(errors).any():  # a mean over some cells would say nothing
            mean = np.exp(np.mean(np.log(errors)))
            print(f"| {name} | {mean:.4f} | " + " | ".join(f"{e:.4f}" for e in errors) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    found = json.loads(FILE.read_text()) if FILE.exists() else []
    for name in () if args.show else args.only:
        run(name, found, args.work, again=args.again)
        print(name, flush=True)
    show(found)


if __name__ == "__main__":
    main()
