"""Batch scripts on a real SLURM of two virtual nodes: run, interrupted, requeued, failed, cancelled."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ddgm_dist.core.units import MIB
from ddgm_dist.deploy.command import Run
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import SiteProfile, parse_site
from ddgm_dist.deploy.slurm import render_sbatch
from ddgm_dist.deploy.slurm_checks import _SOCKET
from ddgm_dist.errors import DdgmError
from ddgm_dist.inspection.run_status import Status
from ddgm_dist.inspection.status import status
from ddgm_dist.records.result import open_result
from ddgm_dist.runs.reconstruct import reconstruct
from tests.chaos.problem import CallLog, Case, make_case, write_denoiser
from tests.deploy.slurm_cluster import SlurmCluster, UnavailableError, cluster

pytestmark = pytest.mark.slurm

REQUIRE = "DDGM_REQUIRE_SLURM"
PATIENCE = 600.0  # seconds for what takes half a minute on an idle machine
DELAY = 0.6  # seconds of a denoiser call, so that there is a middle of a run
ROOT = Path(__file__).parents[2]
# Two workers, one on each node; the calls of a run are 2 tiles x 2 blocks x N.
NEEDS = Resources(workers=2, tiles=2, cpus=1, memory=700 * MIB)
N = 14
# Prints how many nodes a cluster has, if it lets one in. (ray.init would ask for minutes.)
JOIN = """
import sys
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)), "nodes")
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(cluster(2))
        except UnavailableError as error:
            if os.environ.get(REQUIRE):
                pytest.fail(f"{REQUIRE} is set, and there can be no SLURM here: {error}")
            pytest.skip(f"there can be no SLURM here: {error}")
        yield found


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Case]]:
    """Two problems, each with its volume as the for-loop gives it."""
    folder = tmp_path_factory.mktemp("denoiser")
    write_denoiser(folder)
    kinds = ("free", "memory")
    yield [
        make_case(kind, tmp_path_factory.mktemp(kind), field=96, rows=8, N=N, every=2.0, seed=seed)
        for seed, kind in enumerate(kinds, start=1)
    ]
    sys.path.remove(str(folder))


class Work:
    """A case as a job's: where it writes, and what can be seen of it."""

    def __init__(self, slurm: SlurmCluster, case: Case, folder: Path) -> None:
        self.slurm, self.case, self.folder = slurm, case, folder
        self.out, self.calls = folder / "out.zarr", CallLog(folder / "calls")
        self.job = ""
        config = folder / "run.yaml"
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in case.config.items()}
        config.write_text(yaml.safe_dump(values))
        every = f"checkpoint_every={case.interval}"
        self.run = Run(str(case.tilts), str(self.out), config=str(config), overrides=(every,))

    def site(self, **slurm: object) -> SiteProfile:
        """One CPU of each node, with the environment of these tests."""
        denoiser = next(p for p in sys.path if Path(p, "slow.py").exists())
        setup = [
            f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}:{denoiser}",
            f"export OMP_NUM_THREADS=1 CHAOS_DELAY={DELAY} CHAOS_LOG={self.calls.folder}",
        ]
        values = {
            "cpus_per_node": 1,
            "exclusive": False,
            "logs": f"{self.folder}/job-%j.log",
            "object_store": "80MiB",
            "port": 20000,
            "scratch": str(self.slurm.scratch),
            "setup": setup,
            "time": "30",
            **slurm,
        }
        return parse_site({"slurm": values})

    def submit(self, text: str) -> None:
        script = self.folder / "job.sh"
        script.write_text(text)
        self.job = self.slurm.submit(script)

    def log(self, job: str | None = None) -> str:
        path = self.folder / f"job-{job or self.job}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self) -> Status | None:
        try:
            return status(self.out)
        except DdgmError:
            return None

    def half_way(self) -> bool:
        """True if every tile is checkpointed, and far from its last iteration."""
        found = self.status()
        if found is None or not found.checkpoints:
            return False
        return min(c.iteration for c in found.checkpoints) >= 3

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + PATIENCE
        while not ready():
            if self.ended():
                pytest.fail(f"the job ended before {what}: {self.log()[-3000:]}")
            if time.monotonic() > limit:
                pytest.fail(f"no {what} after {PATIENCE:.0f} s: {self.log()[-3000:]}")
            time.sleep(0.3)

    def ended(self) -> bool:
        return self.slurm.state(self.job) not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")

    def finish(self) -> dict[str, str]:
        """Wait for the end; what SLURM says of it."""
        limit = time.monotonic() + PATIENCE
        while not self.ended():
            if time.monotonic() > limit:
                pytest.fail(f"not done after {PATIENCE:.0f} s: {self.log()[-3000:]}")
            time.sleep(0.3)
        return self.slurm.told(self.job)

    def check_volume(self) -> None:
        """Bit for bit that of the for-loop."""
        assert np.array_equal(open_result(self.out).to_dask().compute(), self.case.volume)

    def excess(self) -> int:
        """Denoiser calls beyond those of an undisturbed run."""
        return self.calls.count() - sum(self.case.calls.values())

    def check_nodes_clean(self) -> None:
        """Nothing of the job is left on any node: neither processes nor files."""
        limit = time.monotonic() + PATIENCE
        while left := self._left():
            assert time.monotonic() < limit, left
            time.sleep(0.5)

    def _left(self) -> list[str]:
        found = []
        for node in self.slurm.nodes:
            listed = self.slurm.on(node, "ps", "-A", "-o", "args=").stdout.splitlines()
            found += [line for line in listed if re.search(r"raylet|gcs_server|ray::", line)]
            found += self.slurm.on(node, "ls", str(self.slurm.scratch)).stdout.split()
        return found


@pytest.fixture(autouse=True)
def no_jobs_left(slurm: SlurmCluster) -> Iterator[None]:
    """A test that fails leaves no job for the next one to wait for."""
    yield
    slurm.run("scancel", "--user=root")
    limit = time.monotonic() + PATIENCE
    while left := slurm.run("squeue", "--noheader").stdout:
        if time.monotonic() > limit:
            pytest.fail(f"jobs do not end: {left}")
        time.sleep(0.3)


@pytest.fixture
def work(slurm: SlurmCluster, cases: list[Case], tmp_path: Path) -> Work:
    return Work(slurm, cases[0], tmp_path)


def test_run_to_the_end_behind_a_token(work: Work) -> None:
    work.submit(render_sbatch(work.run, NEEDS, work.site()))
    work.wait(work.half_way, "checkpoint")
    home = work.slurm.scratch / f"ddgm-{work.job}"
    for node in work.slurm.nodes:
        found = work.slurm.on(node, "stat", "-c", "%a", str(home), str(home / "token")).stdout
        assert found.split() == ["700", "600"]
    told = re.search(r"2 nodes, ports (\d+) to \d+, head ([\d.]+)", work.log())
    assert told, work.log()
    address = f"{told[2]}:{told[1]}"

    def join(*environment: str) -> tuple[int, str]:
        words = ["env", *environment, sys.executable, "-c", JOIN, address]
        done = work.slurm.on("n2", *words, check=False)
        return done.returncode, done.stdout + done.stderr

    token, forged = home / "token", work.folder / "forged"
    forged.write_text("0" * 64)
    code, said = join("RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN_PATH={token}")
    assert (code, said) == (0, "2 nodes\n")
    for mode in ("disabled", "token"):
        code, said = join(f"RAY_AUTH_MODE={mode}", f"RAY_AUTH_TOKEN_PATH={forged}")
        assert code == 1
        assert "AuthenticationError: RPC error: InvalidAuthToken" in said, said
    # No socket's path is longer than the renderer counts on.
    for node in work.slurm.nodes:
        found = work.slurm.on(node, "find", str(home), "-type", "s").stdout.split()
        assert found
        assert max(len(path) - len(f"{home}") for path in found) <= _SOCKET - len(
            "/ddgm-4294967295"
        )

    assert work.finish()["JobState"] == "COMPLETED", work.log()
    work.check_volume()
    assert work.excess() == 0
    work.check_nodes_clean()


def test_array_of_series_on_the_same_nodes(
    slurm: SlurmCluster, cases: list[Case], tmp_path: Path
) -> None:
    works = []
    for i, case in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        works.append(Work(slurm, case, tmp_path / str(i)))
    # Jobs of an array share their configuration, so both series are solved as the first one.
    first, second = works
    runs = [first.run, replace(first.run, tilts=second.run.tilts, out=second.run.out)]
    first.submit(render_sbatch(runs, NEEDS, first.site()))

    def both() -> bool:
        listed = slurm.run(
            "squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i"
        ).stdout
        return {f"{first.job}_{i}" for i in range(2)} <= set(listed.split())

    first.wait(both, "two jobs at a time")
    array, ports = first.job, set()
    for i, each in enumerate(works):
        each.job = f"{array}_{i}"
        told = each.finish()
        log = first.log(told["JobId"])
        assert told["JobState"] == "COMPLETED", log
        ports |= set(re.findall(r"nodes, (ports \d+) to", log))
        assert f"complete: {each.out}" in log
    assert len(ports) == 2
    first.check_volume()
    expected = reconstruct(cases[1].tilts, tmp_path / "alone.zarr", cases[0].config, "local")
    volume = expected.to_dask().compute()
    assert np.array_equal(open_result(second.out).to_dask().compute(), volume)
    first.check_nodes_clean()


def test_sigterm_before_the_limit_costs_nothing_that_was_written(work: Work) -> None:
    work.submit(render_sbatch(work.run, NEEDS, work.site()))
    work.wait(work.half_way, "checkpoint")
    # As SLURM does before the time limit: to the script alone.
    work.slurm.run("scancel", "--batch", "--signal=TERM", work.job)
    told = work.finish()
    log = work.log()
    assert (told["JobState"], told["Restarts"]) == ("COMPLETED", "1"), log
    assert "a checkpoint is written" in log
    assert "ddgm-dist: terminated" in log
    assert "start 2" in log
    work.check_volume()
    # What is done between a checkpoint and the end of the workers, a few seconds: not half a run.
    assert work.excess() <= 16
    work.check_nodes_clean()


def test_preemption_with_a_time_of_grace_costs_nothing_that_was_written(work: Work) -> None:
    work.submit(render_sbatch(work.run, NEEDS, work.site()))
    work.wait(work.half_way, "checkpoint")
    # As SLURM does when it preempts with GraceTime: to the steps alone.
    work.slurm.run("scancel", "--signal=TERM", work.job)
    told = work.finish()
    assert (told["JobState"], told["Restarts"]) == ("COMPLETED", "1"), work.log()
    work.check_volume()
    work.check_nodes_clean()


def test_requeue_in_mid_run_on_exclusive_nodes(
    slurm: SlurmCluster, cases: list[Case], tmp_path: Path
) -> None:
    work = Work(slurm, cases[1], tmp_path)  # coupled tiles, which exchange halos
    work.submit(render_sbatch(work.run, NEEDS, work.site(exclusive=True)))
    work.wait(work.half_way, "checkpoint")
    done = work.calls.count()
    slurm.run("scontrol", "requeue", work.job)
    told = work.finish()
    assert (told["JobState"], told["Restarts"]) == ("COMPLETED", "1"), work.log()
    work.check_volume()
    assert work.excess() < done  # it did not begin anew
    work.check_nodes_clean()


def test_start_that_fails_is_a_failed_job(work: Work) -> None:
    # `ray symmetric-run` ends with 0 when `ray start` fails, as it does with a port that is taken.
    listen = "import socket; s = socket.create_server(('', 20000)); input()"
    words = work.slurm.entering("n1", sys.executable, "-c", listen)
    with subprocess.Popen(words, stdin=subprocess.PIPE):
        work.submit(render_sbatch(work.run, NEEDS, work.site(exclusive=True, starts=1)))
        told = work.finish()
    assert (told["JobState"], told["ExitCode"]) == ("FAILED", "1:0"), work.log()
    assert "Failed to start GCS" in work.log()
    work.check_nodes_clean()


def test_command_that_ends_well_without_a_whole_volume_is_a_failed_job(work: Work) -> None:
    needs = replace(NEEDS, workers=1)
    text = render_sbatch(work.run, needs, work.site())
    assert text.count("exec ddgm-dist reconstruct") == 1
    work.submit(text.replace("exec ddgm-dist reconstruct", "exec true"))
    told = work.finish()
    assert (told["JobState"], told["ExitCode"]) == ("FAILED", "1:0"), work.log()


def test_cancelled_job_stays_away(work: Work) -> None:
    work.submit(render_sbatch(work.run, NEEDS, work.site()))
    work.wait(work.half_way, "checkpoint")
    work.slurm.run("scancel", work.job)
    told = work.finish()
    assert (told["JobState"], told["Restarts"]) == ("CANCELLED", "0"), work.log()
    work.check_nodes_clean()
