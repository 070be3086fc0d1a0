"""Small tilt series with a known volume, and denoisers as a user would bring them."""

import functools
import importlib
import itertools
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import zarr

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.protocol import Engine
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, FaultEvent, Report
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.ray_cluster import tried_again

ANGLES = tuple(range(-50, 51, 10))

# What the tests of engines compare; a weak prior that works at every size of image.
SMOOTHER = '''
"""A denoiser that has never seen a tissue."""

import os
import signal
from pathlib import Path

import torch
import torch.nn.functional as F

FAULT = Path(__file__).with_name("fault")
KERNEL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
calls = 0


def _blur(x):
    x = F.conv2d(F.pad(x, (2, 2, 0, 0)), KERNEL.view(1, 1, 1, 5))
    return F.conv2d(F.pad(x, (0, 0, 2, 2)), KERNEL.view(1, 1, 5, 1))


def smooth(x, sigma):
    """The posterior mean of white noise, blurred where there is much noise."""
    share = sigma * sigma / (1 + sigma * sigma)
    return (1 - share) * x + share * _blur(x[:, None])[:, 0] / (1 + sigma)


def deadly(x, sigma):
    """Kills its process in the fifth call, if the file ``fault`` is there to be removed."""
    global calls
    calls += 1
    if calls == 5:
        try:
            FAULT.unlink()
        except FileNotFoundError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return smooth(x, sigma)


def wrong(x, sigma):
    """Gives what is no number."""
    return x * float("nan")


def raising(x, sigma):
    """Reads a file that is not there."""
    return Path("/no/such/file").read_bytes()
'''


def specimen(thickness: int, rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    """A smooth volume of mean 100 and standard deviation 20."""
    noise = np.random.default_rng(seed).standard_normal((thickness, rows, columns))
    smooth = ndi.gaussian_filter(noise, 1.5, mode="wrap")
    return 100 + 20 * smooth / smooth.std()


def project(volume: np.ndarray, field: int, angles: tuple[float, ...]) -> np.ndarray:
    """Line integrals of a volume that may be wider than the detector's ``field``."""
    thickness, rows, columns = volume.shape
    u = np.arange(field) - (field - 1) / 2
    z = np.arange(thickness) - (thickness - 1) / 2
    x = np.arange(columns) - (columns - 1) / 2
    out = np.zeros((len(angles), rows, field), np.float32)
    for (t, angle), k, y in itertools.product(
        enumerate(np.deg2rad(angles)), range(thickness), range(rows)
    ):
        along = (u - z[k] * np.sin(angle)) / np.cos(angle)
        out[t, y] += np.interp(along, x, volume[k, y], 0, 0) / np.cos(angle)
    return out


MakeTilts = Callable[..., Path]


@pytest.fixture(scope="session")
def make_tilts(tmp_path_factory: pytest.TempPathFactory) -> MakeTilts:
    """A tilt series of a slab, or of an isolated specimen, with or without shifts and noise."""

    @functools.cache
    def make(
        *,
        thickness: int = 12,
        rows: int = 8,
        field: int = 100,
        isolated: bool = False,
        shifts: tuple[tuple[float, float], ...] | None = None,
        noise: float = 5.0,
    ) -> Path:
        volume = specimen(thickness, rows, field if isolated else field + 80)
        if isolated:
            volume[:, :, :20] = volume[:, :, -20:] = 0
        data = project(volume, field, ANGLES)
        data += noise * np.random.default_rng(1).standard_normal(data.shape).astype(np.float32)
        path = tmp_path_factory.mktemp("tilts") / "tilts.zarr"
        write_tilt_series(path, data, TiltSeriesMeta(ANGLES, shifts, thickness_px=thickness))
        return path

    return make


@pytest.fixture(scope="session")
def truth() -> np.ndarray:
    """The slab of the default tilt series, within its field."""
    return specimen(12, 8, 180)[:, :, 40:-40]


@pytest.fixture(scope="session")
def tilts(make_tilts: MakeTilts) -> Path:
    return make_tilts()


@pytest.fixture(scope="session")
def denoisers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of ``smoother.py``, importable here and in processes that are started from now on."""
    folder = tmp_path_factory.mktemp("denoisers")
    (folder / "smoother.py").write_text(SMOOTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.syspath_prepend(folder)
        importlib.import_module("smoother")
        yield folder
    del sys.modules["smoother"]


Solve = Callable[..., tuple[np.ndarray, Result]]


@pytest.fixture
def solve(denoisers: Path, tmp_path: Path) -> Solve:
    """Reconstruct into a fresh store; returns the volume and the result."""
    outputs = itertools.count()

    def run(
        tilts: Path, engine: str | Engine | None = None, **keys: Any
    ) -> tuple[np.ndarray, Result]:
        config = {"N": 3, "K": 5, "rows_per_call": 2, "denoiser": "smoother:smooth", **keys}
        out = tmp_path / f"volume{next(outputs)}.zarr"
        result = reconstruct(tilts, out, config, engine or LocalEngine())
        volume = result.to_dask().compute()
        assert np.isfinite(volume).all()
        return volume, result

    return run


class BegunError(Exception):
    """The output is made."""


class Begun(LocalEngine):
    """Keeps the job and computes nothing."""

    job: Job

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        self.job = job
        raise BegunError


@pytest.fixture
def begin(tilts: Path, denoisers: Path, tmp_path: Path) -> Callable[..., Job]:
    """Makes the output of a run of two tiles, ``out.zarr``, and nothing in it; returns the job."""

    def run(**keys: Any) -> Job:
        engine, overwrite = Begun(), keys.pop("overwrite", False)
        keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 4, **keys}
        with pytest.raises(BegunError):
            reconstruct(
                tilts,
                tmp_path / "out.zarr",
                {"denoiser": "smoother:smooth", **keys},
                engine,
                overwrite=overwrite,
            )
        return engine.job

    return run


# A denoiser that gives what `smooth` gives, and fails at it in as many ways as there are files.
FAULTY = '''
import os
import signal
import time
from pathlib import Path

from smoother import smooth

HERE = Path(__file__).parent
calls = 0


def _one_fault(name):
    """Whether there is a file of this name left; takes it."""
    for path in HERE.glob(name + "*"):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        return True
    return False


def faulty(x, sigma):
    global calls
    calls += 1
    while (HERE / "pause").exists() or ((HERE / "late").exists() and sigma < 0.25):
        time.sleep(0.02)
    if (HERE / "slow").exists():
        time.sleep(0.2)
    if calls > 2:
        if _one_fault("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if _one_fault("hang"):
            time.sleep(1e6)
        if _one_fault("stop"):
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1)
        if _one_fault("memory"):
            import ray

            raise ray.exceptions.OutOfMemoryError("planted")
        if _one_fault("full"):
            import ray

            raise ray.exceptions.ObjectStoreFullError("planted")
    return smooth(x, sigma)
'''


def watched_engine(watch: Callable[[Event], None] | None = None, **options: Any) -> Any:
    """A Ray engine that keeps its events in ``seen``, and shows them to somebody."""
    from ddgm_dist.ray_engine.engine import RayEngine
    from ddgm_dist.ray_engine.watch import Timeouts

    class Watched(RayEngine):
        def __init__(self) -> None:
            timeouts = {"heartbeat": 0.1, "drain": 0.2, "resize": 0.3, "start": 300.0}
            super().__init__(
                timeouts=Timeouts(**{**timeouts, **options.pop("timeouts", {})}), **options
            )
            self.seen: list[Event] = []

        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            def listen(event: Event) -> None:
                self.seen.append(event)
                report(event)
                if watch:
                    watch(event)

            super().run(job, done, listen)

        def faults(self) -> list[FaultEvent]:
            return [event for event in self.seen if isinstance(event, FaultEvent)]

    return Watched()


@pytest.fixture
def watched() -> Callable[..., Any]:
    """Makes a Ray engine that keeps its events in ``seen``, and shows them to somebody."""
    return watched_engine


@pytest.fixture(scope="module")
def faults(denoisers: Path) -> Path:
    """Folder in which a file is a fault that is yet to happen."""
    (denoisers / "faulty.py").write_text(FAULTY)
    return denoisers


@pytest.fixture(scope="module")
def two_cpus(faults: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node of two CPUs, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "20")
        options = {
            "num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False,
        }  # fmt: skip
        nodes = tried_again(Cluster, initialize_head=True, head_node_args=options)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(nodes.address, configure_logging=False, log_to_driver=False)
            signal.signal(signal.SIGTERM, handler)
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


@pytest.fixture
def plant(faults: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file in the faults' folder; none is left behind."""
    planted = []

    def make(name: str) -> Path:
        path = faults / name
        path.touch()
        planted.append(path)
        return path

    yield make
    for path in planted:
        path.unlink(missing_ok=True)


def forget_record(tilts: Path) -> Path:
    """A series as others write it: without a record of its pixels."""
    shutil.rmtree(tilts / "ddgm_dist" / "digests")
    group = zarr.open_group(str(tilts), mode="r+")
    attribute = dict(group.attrs.asdict()["ddgm_dist"])  # type: ignore[arg-type]
    del attribute["record"]
    group.attrs["ddgm_dist"] = attribute
    return tilts
