"""The effect of each of DDGM's settings, one varied at a time around the defaults.

    python benchmarks/study/variations.py [--table steps ...] [--quick] [--show]

`steps`: K x N, with the paper's pairs. `start`: sigma_1. `schedules`: exponential, linear, cosine,
Karras. `noise`: the fraction of each noise level that is added, 0 among them. All are in the reference
geometry at three levels of noise, on the scored slices, with one seed. Figures go to
benchmarks/results/study/variations.json as they come; existing ones are kept without --again. --quick
takes one slice and the middle level of noise, and writes to the work folder. --show prints existing
figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cells import NOISES, RESULTS, SCORE_ROWS, Cell
from methods import DDGM_DEFAULT, DDGM_PAPER, METHODS
from slabs import make_slab

SEED = 0
KS, NS = (15.0, 25.0, 50.0, 100.0, 200.0), (10, 25, 50, 150)
STARTS = (1.0, 3.0, 5.0, 10.0, 30.0)
SCHEDULES = ("exponential", "linear", "cosine", "karras")
ADDED = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def variations(table: str) -> Iterator[dict]:
    """Settings to run, each a change of the defaults; N = 50 unless it is given."""
    if table == "steps":
        for N in NS:
            for K in KS:
                yield {"N": N, "K": K}
        for N in NS[-2:]:
            for K in KS[:2]:
                yield {**DDGM_PAPER, "N": N, "K": K}
    elif table == "start":
        for sigma_1 in STARTS:
            yield {"sigma_1": sigma_1}
    elif table == "schedules":
        for schedule in SCHEDULES:
            for sigma_1 in (5.0, 20.0):
                yield {"schedule": schedule, "sigma_1": sigma_1}
    else:
        for added in ADDED:
            yield {"added_noise": added}


TABLES = ("steps", "start", "schedules", "noise")


def measure(
    table: str, noise: float, rows: tuple[int, ...], file: Path, work: Path, *, again: bool
) -> None:
    """Run what the file lacks of a table at a level of noise; or all of it, again."""
    cell = Cell(noise, rows)
    slab = make_slab(cell, work)
    for change in variations(table):
        found = load(file)
        old = find(found, noise, change)
        if old and old.get("prior") == slab.prior and not again:
            continue
        found = [r for r in found if r is not old]
        started = time.process_time()
        x = METHODS["DDGM"].run(slab, {**DDGM_DEFAULT, "N": 50, **change}, SEED)
        seconds = round(time.process_time() - started, 2)
        scores = slab.score(x)
        line = {"noise": noise, "change": change, "prior": slab.prior, "seconds": seconds}
        line |= {name: scores[name] for name in ("nmse", "psnr", "ssim")}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([*found, line], indent=1) + "\n")
        print(f"{noise:.0%} {change}: nmse {line['nmse']:.4f}", flush=True)


def load(file: Path) -> list[dict]:
    """Load the results that were measured before."""
    return json.loads(file.read_text()) if file.exists() else []


def find(found: list[dict], noise: float, change: dict) -> dict | None:
    """The line of a variation."""
    lines = [r for r in found if r["noise"] == noise and r["change"] == change]
    return lines[0] if lines else None


def show(table: str, found: list[dict], noises: list[float]) -> None:
    """As markdown: NMSE (SSIM) at every level of noise."""
    print(f"\n**{table}**\n\n| change | " + " | ".join(f"{n:.0%}" for n in noises) + " |")
    print("| --- " * (len(noises) + 1) + "|")
    for change in variations(table):
        lines = [find(found, noise, change) for noise in noises]
        if any(lines):
            cells = [f"{r['nmse']:.4f} ({r['ssim']:.3f})" if r else "" for r in lines]
            text = ", ".join(
                f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
                for name, value in change.items()
            )
            print(f"| {text} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--quick", action="store_true", help="one slice, one level of noise")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    folder = args.work / "quick" if args.quick else RESULTS
    file = folder / "variations.json"
    noises = list(NOISES[1:2] if args.quick else NOISES)
    rows = SCORE_ROWS["medulla"][: 1 if args.quick else None]
    for table in args.table:
        for noise in () if args.show else noises:
            measure(table, noise, rows, file, args.work, again=args.again)
        show(table, load(file), noises)


if __name__ == "__main__":
    main()
