"""Ray gives the bits that the for-loop gives, whatever is cut, shared out or killed."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddgm_dist.engine.faults import Limits
from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.inspection.verify import verify
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

COUPLED = {"tile_columns": 48, "margin": 24}

pytestmark = [
    pytest.mark.ray,
    # Ray leaves the handles of its log files and sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def ray_engine(**options: Any) -> Any:
    from ddgm_dist.ray_engine.engine import RayEngine

    return RayEngine(**options)


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """The process is left as it was found."""

    def state() -> tuple[Any, ...]:
        handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
        root = logging.getLogger()
        return handlers, list(root.handlers), root.level, dict(os.environ), torch.get_num_threads()

    before = state()
    yield
    assert state() == before


@pytest.fixture(scope="module")
def cluster(denoisers: Path) -> Iterator[None]:
    """The engine's own cluster, kept for all tests; its workers find the denoisers."""
    import ray

    from ddgm_dist.ray_engine.cluster import connected

    with unchanged():
        with pytest.MonkeyPatch.context() as patch:
            # One worker gets two threads, four get one each.
            patch.setattr(os, "cpu_count", lambda: 2)
            own = connected(None)
            own.__enter__()
        yield
        assert ray.is_initialized()  # what a run finds it leaves as it is
        own.__exit__(None, None, None)
        assert not ray.is_initialized()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("workers", "rows"), [(1, 8), (4, 2)])
def test_workers_and_cuts_along_y_do_not_change_a_bit(
    tilts: Path, solve: Solve, workers: int, rows: int
) -> None:
    expected, reference = solve(tilts)
    with unchanged():
        volume, result = solve(tilts, ray_engine(workers=workers), tile_rows=rows)
    np.testing.assert_array_equal(volume, expected)
    assert [r["residual"] for r in result.residuals] == pytest.approx(
        [r["residual"] for r in reference.residuals]
    )
    receipts = list(RunRecord(Path(result.path)).receipts(result.problem.digest()))
    assert {r["tile"] for r in receipts} == {tile.name for tile in result.plan.tiles}
    assert all(r["worker"].startswith("worker-") for r in receipts)


@pytest.mark.usefixtures("cluster")
def test_coupled_tiles_do_not_change_a_bit(make_tilts: MakeTilts, solve: Solve) -> None:
    """Three tiles on two workers: one talks to a neighbour on its own worker and to another."""
    tilts = make_tilts(field=144)
    expected, _ = solve(tilts, **COUPLED)
    volume, result = solve(tilts, ray_engine(workers=2), tile_rows=8, **COUPLED)
    assert [len(group) for group in result.plan.groups] == [3]
    np.testing.assert_array_equal(volume, expected)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
def test_a_killed_worker_does_not_change_a_bit(
    make_tilts: MakeTilts, solve: Solve, denoisers: Path, cut: dict[str, Any]
) -> None:
    tilts = make_tilts(field=144)
    keys = {"tile_rows": 4, "denoiser": "smoother:deadly", **cut}
    expected, _ = solve(tilts, **keys)
    fault = denoisers / "fault"
    fault.touch()
    volume, _ = solve(tilts, ray_engine(workers=2), **keys)
    assert not fault.exists()  # so a worker did die, of SIGKILL, in the midst of a tile
    np.testing.assert_array_equal(volume, expected)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
def test_a_killed_worker_does_not_change_a_bit_of_samples(
    make_tilts: MakeTilts, solve: Solve, denoisers: Path, cut: dict[str, Any]
) -> None:
    """One tile (or group) each: there is nothing else to share out."""
    tilts = make_tilts(field=144, rows=4)
    keys = {"samples": 3, "N": 2, "tile_rows": 4, "denoiser": "smoother:deadly", **cut}
    mean, reference = solve(tilts, **keys)
    fault = denoisers / "fault"
    fault.touch()
    volume, result = solve(tilts, ray_engine(workers=2), keep_samples=True, **keys)
    assert not fault.exists()
    np.testing.assert_array_equal(volume, mean)
    np.testing.assert_array_equal(
        result.to_dask("std").compute(), reference.to_dask("std").compute()
    )
    assert verify(result.path) == {}


@pytest.mark.usefixtures("cluster")
def test_too_many_lost_workers_end_the_run_and_it_can_go_on(
    tilts: Path, solve: Solve, denoisers: Path, tmp_path: Path
) -> None:
    keys = {"N": 3, "K": 5, "rows_per_call": 2, "tile_rows": 2, "denoiser": "smoother:deadly"}
    fault, out = denoisers / "fault", tmp_path / "out.zarr"
    fault.touch()
    with pytest.raises(DdgmError, match=r"worker-lost.*finished work is kept") as caught:
        reconstruct(tilts, out, keys, ray_engine(workers=1, limits=Limits(losses=0)))
    assert "\n" not in str(caught.value)
    done = list(out.glob("ddgm_dist/receipts/*/*.json"))
    assert len(done) <= 1  # five calls are one tile of three iterations and most of another
    result = reconstruct(tilts, out, keys, "local")
    np.testing.assert_array_equal(result.to_dask().compute(), solve(tilts, **keys)[0])


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
def test_a_worker_that_cannot_start_fails_the_run_at_once(
    make_tilts: MakeTilts,
    solve: Solve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: dict[str, Any],
) -> None:
    """The denoiser can be imported here, and not there: the cluster is older than its folder."""
    (tmp_path / "only_here.py").write_text("def smooth(x, sigma):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DdgmError, match=r"worker could not start: .*only_here") as caught:
        solve(make_tilts(field=144), ray_engine(workers=1), denoiser="only_here:smooth", **cut)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cluster")
def test_bad_input_found_by_a_worker_is_raised_as_it_is(
    tilts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And paths may be relative, although the cluster was started elsewhere."""
    monkeypatch.chdir(tilts.parent)
    keys = {"N": 1, "denoiser": "smoother:wrong"}
    with pytest.raises(InputError, match="gave NaN or infinity") as caught:
        reconstruct(tilts.name, "out.zarr", keys, ray_engine(workers=1))
    assert str(caught.value).startswith("denoiser = smoother:wrong: ")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cluster")
def test_what_a_users_denoiser_raises_is_the_users_error(tilts: Path, tmp_path: Path) -> None:
    keys = {"N": 1, "denoiser": "smoother:raising"}
    words = r"raised at sigma = .*: FileNotFoundError: .*/no/such/file.* \(.*smoother\.py:\d+ in raising"
    with pytest.raises(InputError, match=words) as caught:
        reconstruct(tilts, tmp_path / "out.zarr", keys, ray_engine(workers=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, -1])
def test_refuses_no_workers(workers: int) -> None:
    with pytest.raises(InputError, match="workers"):
        ray_engine(workers=workers)


def test_an_address_where_nothing_listens_is_refused_at_once(tilts: Path, tmp_path: Path) -> None:
    """Ray itself would try for minutes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(InputError, match=f"address = {address}: nothing answers"):
        reconstruct(tilts, tmp_path / "out.zarr", {}, ray_engine(address=address))
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.usefixtures("cluster")
def test_more_than_the_cluster_has_is_refused_before_any_work(tilts: Path, tmp_path: Path) -> None:
    keys = {"N": 1, "denoiser": "smoother:smooth"}
    with pytest.raises(InputError, match=r"workers = 7: of 4 TiB each do not fit .*1 nodes: 2 CPU"):
        reconstruct(tilts, tmp_path / "out.zarr", keys, ray_engine(workers=7), memory=2**42)
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.usefixtures("cluster")
def test_other_versions_on_the_workers_are_refused(
    tilts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddgm_dist.ray_engine import pool as ray_pool

    ours = {**ray_pool.versions(), "torch": "1.0"}
    monkeypatch.setattr(ray_pool, "versions", lambda: ours)
    keys = {"N": 1, "denoiser": "smoother:smooth"}
    with pytest.raises(DdgmError, match=r"torch \S+ \(here 1\.0\)"):
        reconstruct(tilts, tmp_path / "out.zarr", keys, ray_engine(workers=1))
    assert not list((tmp_path / "out.zarr").glob("0/c/**/*"))


@pytest.mark.parametrize(
    ("found", "workers", "expected"),
    [
        ([(4, 0)], None, (4, 1, 1.0, 0.0)),
        ([(4, 0)], 2, (2, 2, 2.0, 0.0)),
        ([(1, 0), (1, 0), (1, 0)], 2, (2, 1, 1.0, 0.0)),  # three CPUs, but one per node
        ([(3, 0), (3, 0)], 2, (2, 3, 3.0, 0.0)),
        ([(2, 0)], 8, (8, 1, 0.25, 0.0)),
        ([(16, 2), (8, 1)], None, (3, 8, 8.0, 1.0)),
        ([(16, 1)], 2, (2, 8, 8.0, 0.5)),
    ],
)
def test_shares_fit_the_nodes(
    found: list[tuple[int, int]], workers: int | None, expected: tuple[int, int, float, float]
) -> None:
    from ddgm_dist.ray_engine.shares import shares

    nodes = [{"CPU": float(c), "GPU": float(g), "memory": 2.0**30} for c, g in found]
    s = shares(nodes, workers, useful=100, memory=None)
    assert (s.workers, s.threads, s.cpus, s.gpus) == expected
