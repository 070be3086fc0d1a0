"""Hyperparameter search: every method with the same budget, on rows that are not scored.

    python benchmarks/study/search.py [--trials 8] [--geometry NAME ...] [--noise ...] [--group ...]

A trial is one run with one seed on the search rows, and the mean squared error of the inner region is
minimised. Trial 0 is the paper's setting or the shipped default. Another is the best setting at the
same level of noise in the reference geometry of that thickness, which is therefore searched first (64
thick for the cube, 128 for 256). The others are optuna's, by its tree-structured Parzen estimator after
three trials. Methods with one setting that costs little (number of steps, window, nu^2) have all values
tried instead, and those without a setting have no search. Trials are kept, a file per cell, in
benchmarks/results/study. Run again it resumes, also with a larger budget. Several may run at once.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import torch
from cells import GEOMETRIES, NOISES, RESULTS, SEARCH_ROWS, Cell, cells, fraction
from method import Choice, Method, Real, Settings, Whole
from methods import GROUPS, METHODS, group_of
from results import change, load
from slabs import Slab, make_slab

SEED = 1


class Record:
    """The trials of a cell, as a JSON file that is replaced after every trial.

    Processes that search different methods may share it. Trials with other networks than ``prior`` and
    ``restorer``, of a method that uses them, are dropped.
    """

    def __init__(self, cell: Cell, N: int, prior: str, restorer: str = "") -> None:
        self.path = RESULTS / f"search_{cell.label}_N{N}.json"
        self.cell, self.N, self.prior, self.restorer = cell, N, prior, restorer
        self.trials: dict[str, list[dict]] = load(self.path, {})

    def of(self, method: str) -> list[dict]:
        return self._valid(method, self.trials)

    def _valid(self, method: str, trials: dict[str, list[dict]]) -> list[dict]:
        networks = METHODS[method].networks(self.prior, self.restorer)
        return [trial for trial in trials.get(method, []) if networks.items() <= trial.items()]

    def add(self, method: str, trials: list[dict]) -> None:
        networks = METHODS[method].networks(self.prior, self.restorer)
        new = [{**networks, **trial} for trial in trials]

        def added(now: dict[str, list[dict]]) -> dict[str, list[dict]]:
            return {**now, method: self._valid(method, now) + new}

        self.trials = change(self.path, {}, added)

    def best(self, method: str) -> dict:
        """The settings with the least error."""
        trials = self.of(method)
        if not trials:
            raise SystemExit(f"{self.path.name} has no trial of {method}: run search.py first")
        return min(trials, key=lambda trial: trial["nmse"])["settings"]

    def borrowed(self, method: str) -> dict | None:
        """What did best in the reference geometry; None in that itself, or before it was searched."""
        reference = self.cell.reference
        if reference == self.cell:
            return None
        other = Record(reference, self.N, self.prior, self.restorer)
        return other.best(method) if other.of(method) else None


def propose(method: Method, trials: list[dict], borrowed: dict | None = None) -> dict:
    """Settings of the next trial, a function of those before it and of what did well elsewhere."""
    if not trials:
        return dict(method.first)
    if borrowed and all(trial["settings"] != borrowed for trial in trials):
        return dict(borrowed)
    import optuna  # a development dependency, which showing results does not need

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=len(trials), n_startup_trials=3)
    study = optuna.create_study(sampler=sampler)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, r in method.space.items():
        if isinstance(r, Real):
            distributions[name] = optuna.distributions.FloatDistribution(r.low, r.high, log=r.log)
        elif isinstance(r, Whole):
            distributions[name] = optuna.distributions.IntDistribution(r.low, r.high)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={name: trial["settings"][name] for name in distributions},
                distributions=distributions,
                value=trial["nmse"],
            )
        )
    return study.ask(distributions).params


def run_trial(slab: Slab, method: Method, settings: Settings, N: int) -> dict:
    """Error and time of one run; one that diverged scores a fixed bad value, for the sampler."""
    started = time.process_time()
    x = method.run(slab, method.given(settings, N), SEED)
    seconds = time.process_time() - started
    error = slab.nmse(x) if bool(torch.isfinite(x).all()) else math.inf
    return {"settings": settings, "nmse": min(error, 100.0), "seconds": round(seconds, 2)}


def try_all(slab: Slab, method: Method) -> list[dict]:
    """Every value of the one setting there is."""
    ((name, choice),) = method.space.items()
    assert isinstance(choice, Choice)
    if method.sweep is None:
        return [run_trial(slab, method, {name: value}, 0) for value in choice.values]
    started = time.process_time()
    trials: list[dict] = []
    for steps, x in method.sweep(slab, choice.values):
        seconds = round(time.process_time() - started, 2)
        error = slab.nmse(x)
        trials.append({"settings": {name: steps}, "nmse": error, "seconds": seconds})
        if error > 1.5 * min(trial["nmse"] for trial in trials):
            break  # it fits the noise, and from here on ever more of it
    return trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8, help="per method and cell")
    parser.add_argument("--N", type=int, default=50, help="denoiser calls per run")
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=list(GEOMETRIES))
    parser.add_argument("--noise", type=fraction, nargs="+", default=NOISES, help="0.05 is 5 %%")
    parser.add_argument(
        "--method", nargs="+", choices=METHODS, metavar="NAME", default=list(METHODS)
    )
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=GROUPS, help="of methods")
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = [name for name in args.method if group_of(name) in args.group]
    for cell in cells(args.geometry, args.noise, SEARCH_ROWS):
        slab = make_slab(cell, args.work)
        record = Record(cell, args.N, slab.prior, slab.restored_by)
        # Round by round, so that wherever it is interrupted all methods had about the same budget.
        for number in range(args.trials):
            for name in names:
                advance(record, slab, name, number, args.N)


def advance(record: Record, slab: Slab, name: str, number: int, N: int) -> None:
    """Trial ``number`` of a method, if it has not been made; all of them where all are tried."""
    method, done = METHODS[name], record.of(name)
    if not method.space or len(done) > number or (method.exhaustive and done):
        return
    if method.exhaustive:
        record.add(name, try_all(slab, method))
        last = min(record.of(name), key=lambda trial: trial["nmse"])
    else:
        settings = propose(method, done, record.borrowed(name))
        record.add(name, [run_trial(slab, method, settings, N)])
        last = record.of(name)[-1]
    print(f"{slab.cell.label} {name} {number}: {last}", flush=True)


if __name__ == "__main__":
    main()
