"""Signals end a command in order: what it holds is given back, and the status tells which it was."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddgm_dist.cli import main
from ddgm_dist.inspection.status import status
from ddgm_dist.paths.claim import LEASE
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.small_runs import ANGLES, project, specimen

SLEEPY = """
import time

def denoise(x, sigma):
    time.sleep(0.1)
    return 0.5 * x
"""


@pytest.fixture(autouse=True)
def no_handler_of_former_tests() -> Iterator[None]:
    """Ray leaves one for SIGTERM in a process that has started it by itself."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_gives_its_output_back(number: signal.Signals, code: int, tmp_path: Path) -> None:
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    data = project(specimen(8, 4, 90, seed=1), 64, ANGLES)
    tilts, out = tmp_path / "tilts.zarr", tmp_path / "out.zarr"
    write_tilt_series(tilts, data, TiltSeriesMeta(ANGLES, None, thickness_px=8))
    words = [sys.executable, "-m", "ddgm_dist", "reconstruct", str(tilts), str(out), "--quiet"]
    words += ["--engine", "local", "--set", "denoiser=sleepy:denoise", "--set", "N=400"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as run:
        record = RunRecord(out)
        while record.read_state() is None:
            assert run.poll() is None
            time.sleep(0.05)
        assert record.has(LEASE)
        run.send_signal(number)
        _, said = run.communicate()
    assert run.returncode == code, said
    why = "terminated" if code == 143 else "interrupted"
    assert said == f"ddgm-dist: {why}; run the same command again: it goes on from what was kept\n"
    assert not record.has(LEASE)
    assert status(out).state == "interrupted"


def test_signals_are_as_before_when_a_command_is_done() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_program_with_plans_of_its_own_for_sigterm_keeps_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = threading.Event()
    monkeypatch.setattr("ddgm_dist.cli.entry._run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, lambda *_: mine.set())
    try:
        assert main([]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert mine.is_set()


def test_a_signal_that_comes_out_of_ray_in_disguise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def disguised(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except BaseException as error:
            raise SystemError("returned a result with an exception set") from error

    monkeypatch.setattr("ddgm_dist.cli.entry._run", disguised)
    assert main([]) == 143
    assert capsys.readouterr().err == "ddgm-dist: terminated\n"
