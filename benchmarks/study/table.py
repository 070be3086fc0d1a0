"""The table: every method, with the settings that the search found, on rows it did not see.

    python benchmarks/study/table.py [--geometry NAME ...] [--noise 0.05 0.3 1] [--quick] [--show]

The columns are MSE (also as a fraction of the tissue's variance), PSNR, SSIM, Fourier ring correlation,
processor seconds and calls of the networks. The ring correlation is the mean below 1/4 cycle per voxel,
for frequencies inside the measured wedge and in the missing wedge. Figures go to
benchmarks/results/study after every run, a file per cell, and volumes to the work folder for figure.py.
Existing ones are kept without --again. Several processes may run at once, best on different geometries.
README.md has the order of the whole study, and what it costs.

--quick scores one slice of each level of noise, and keeps its figures in the work folder. --show prints
existing figures: the reference geometries in full, every cell in a line, and the goals (verdict.py).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cells import (
    GEOMETRIES,
    NOISES,
    REFERENCES,
    RESULTS,
    SCORE_ROWS,
    SEARCH_ROWS,
    Cell,
    cells,
    fraction,
)
from method import Settings
from methods import GROUPS, Row, group_of, method_of, rows
from results import change
from results import load as load_json
from search import Record
from slabs import Slab, made_fresh, make_slab
from verdict import goals, summarise

SEED = 0
# Cycles per voxel up to which ring correlations are averaged.
BAND = 0.25


def score_row(slab: Slab, row: Row, settings: Settings, keep: Path) -> dict:
    """Run a line of the table on a cell; the volume is kept for the figure."""
    method, slab = method_of(row.method), made_fresh(slab)
    given = method.given(settings, row.N)
    before = replace(slab.calls)
    started = time.process_time()
    samples = [method.run(slab, given, SEED + s) for s in range(row.samples)]
    x = torch.stack(samples).mean(dim=0)
    seconds = time.process_time() - started
    keep.parent.mkdir(parents=True, exist_ok=True)
    np.save(keep, slab.restore(x).astype(np.float16))
    # All samples of a problem share its restored start.
    shared = row.samples if method.restores else 1
    return {
        "cell": slab.cell.label,
        "noise": slab.cell.noise,
        "rows": list(slab.cell.rows),
        "method": row.name,
        "prior": slab.prior if method.denoises else None,
        "restorer": slab.restored_by if method.restores else None,
        "settings": dict(settings),
        "samples": row.samples,
        "denoiser_calls": slab.calls.forward - before.forward,
        "backward_calls": slab.calls.backward - before.backward,
        "restorer_calls": (slab.calls.restorer - before.restorer) // shared,
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
        **slab.score(x),
    }


def ring_mean(found: dict, part: str) -> float:
    """Mean of a curve over the rings of the band."""
    frequency = np.array(found["rings"]["frequency"])
    return float(np.nanmean(np.array(found["rings"][part], dtype=float)[frequency < BAND]))


def show(title: str, lines: list[dict]) -> None:
    """A cell as markdown; bold is the best of a column among single samples."""
    if not lines:
        return
    print(
        f"\n**{title}, noise {lines[0]['noise']:.0%}**\n\n"
        "| method | MSE | NMSE | PSNR | SSIM | FRC measured | FRC missing | s | threads | calls |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    least = min(r["mse"] for r in lines if r["samples"] == 1)
    most = max(r["ssim"] for r in lines if r["samples"] == 1)
    for r in lines:
        mse, ssim = f"{r['mse']:.1f}", f"{r['ssim']:.3f}"
        if r["samples"] == 1:
            mse = f"**{mse}**" if r["mse"] == least else mse
            ssim = f"**{ssim}**" if r["ssim"] == most else ssim
        calls = f"{r['denoiser_calls']}" + (" + VJP" if r["backward_calls"] else "")
        if r.get("restorer_calls"):
            calls += f" + {r['restorer_calls']} of the restorer"
        print(
            f"| {r['method']} | {mse} | {r['nmse']:.4f} | {r['psnr']:.2f} | {ssim} "
            f"| {ring_mean(r, 'measured'):.3f} | {ring_mean(r, 'missing'):.3f} "
            f"| {r['seconds']:.1f} | {r.get('threads', '')} | {calls} |"
        )


def is_done(line: dict, row: Row, wanted: dict) -> bool:
    """True if a measured line is of these settings, slices, networks and calls."""
    if method_of(row.method).denoises and line["denoiser_calls"] != row.N * row.samples:
        return False
    return wanted.items() <= line.items() and line["samples"] == row.samples


def measure(
    cell: Cell, lines: Iterable[Row], N: int, folder: Path, work: Path, *, again: bool = False
) -> None:
    """Run the lines that a cell's file lacks, or has for other settings or slices; or all, again."""
    slab = make_slab(cell, work)
    searched = replace(cell, rows=SEARCH_ROWS[cell.specimen])
    record = Record(searched, N, slab.prior, slab.restored_by)
    order = [row.name for row in rows(N)]
    for row in lines:
        if not (row.everywhere or searched == searched.reference):
            continue
        method = method_of(row.method)
        if row.settings is None and not record.of(row.method):
            print(f"{cell.label} {row.name}: left out, search.py has no trial of it", flush=True)
            continue
        settings = record.best(row.method) if row.settings is None else dict(row.settings)
        wanted = {"settings": settings, "rows": list(cell.rows)}
        wanted |= method.networks(slab.prior, slab.restored_by)
        done = [r for r in load(folder, cell) if r["method"] == row.name]
        if not again and any(is_done(r, row, wanted) for r in done):
            continue
        line = score_row(slab, row, settings, work / cell.key / f"{row.name}.npy")

        def with_line(table: list[dict], line: dict = line) -> list[dict]:
            table = [r for r in table if r["method"] != line["method"]] + [line]
            return sorted(table, key=lambda r: (r["method"] not in order, _place(order, r)))

        change(path(folder, cell), [], with_line)
        print(f"{cell.label} {row.name}: nmse {line['nmse']:.4f}, {line['seconds']} s", flush=True)


def _place(order: list[str], line: dict) -> int:
    return order.index(line["method"]) if line["method"] in order else 0


def path(folder: Path, cell: Cell) -> Path:
    return folder / f"table_{cell.label}.json"


def load(folder: Path, cell: Cell) -> list[dict]:
    """Load the results of a cell that were measured before."""
    found: list[dict] = load_json(path(folder, cell), [])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--N", type=int, default=50, help="denoiser calls of the search")
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=list(GEOMETRIES))
    parser.add_argument("--noise", type=fraction, nargs="+", default=NOISES, help="0.05 is 5 %%")
    names = [row.name for row in rows(50)]
    parser.add_argument("--method", nargs="+", choices=names, metavar="NAME", help="lines; or all")
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=GROUPS, help="of methods")
    parser.add_argument("--slices", type=int, default=4, help="scored, per cell")
    parser.add_argument("--quick", action="store_true", help="one slice, the reference geometry")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder, slices = (args.work / "quick", 1) if args.quick else (RESULTS, args.slices)
    geometries = list(REFERENCES[:1]) if args.quick else args.geometry
    lines = [row for row in rows(args.N) if not args.method or row.name in args.method]
    lines = [row for row in lines if group_of(row.method) in args.group]
    if args.quick:
        lines = [row for row in lines if row.N <= args.N and row.samples == 1]
    for cell in () if args.show else cells(geometries, args.noise, SCORE_ROWS, slices):
        measure(cell, lines, args.N, folder, args.work, again=args.again)
    for name in REFERENCES:
        for cell in cells([name], args.noise, SCORE_ROWS):
            show(f"{name} thick", load(folder, cell))
    found = {
        (name, cell.noise): {line["method"]: line for line in load(folder, cell)}
        for name in geometries
        for cell in cells([name], args.noise, SCORE_ROWS)
    }
    summarise(found)
    goals(found)


if __name__ == "__main__":
    main()
