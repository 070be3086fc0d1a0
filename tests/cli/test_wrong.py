"""Wrong command lines end at once, in one line that names what is wrong, with status 2."""

import math
from pathlib import Path

import numpy as np
import pytest

from ddgm_dist.algorithm.schedule import make_schedule
from ddgm_dist.cli.entry import main
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.planning.config import parse_config
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tilt series, a volume, and links that lead in a circle."""
    values = np.random.default_rng(0).random((3, 4, 64), np.float32)
    write_tilt_series(
        tmp_path / "t.zarr", values, TiltSeriesMeta((-30.0, 0.0, 30.0), thickness_px=16)
    )
    np.save(tmp_path / "tilts.npy", values)
    np.save(tmp_path / "volume.npy", values)
    (tmp_path / "circle").symlink_to("elcric")
    (tmp_path / "elcric").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plan circle", "tilts = circle: names no place"),
        ("plan ~nobody-of-this-name/t.zarr", "names no place (Could not determine home"),
        (f"plan {'x' * 300}", "names no place (File name too long)"),
        ("status circle", "out = circle: names no place"),
        ("ingest tilts.npy circle --angles -30,0,30", "out = circle: names no place"),
        ("evaluate volume.npy circle", "reference = circle: names no place"),
        ("evaluate volume.npy absent.npy", "absent.npy: does not exist"),
        ("plan t.zarr --set N=1000000000", "N = 1000000000: input should be less than"),
        ("plan t.zarr --set K=1e308", "K = 1e+308: input should be less than"),
        ("plan t.zarr --set std=1e300", "std = 1e+300: input should be less than"),
        ("plan t.zarr --set mean=-1e300", "mean = -1e+300: input should be greater than"),
        ("plan t.zarr --set sigma_y=1e300", "sigma_y = 1e+300: input should be less than"),
        ("ingest tilts.npy o.zarr --angles -30,0,30 --dark nan", "dark = nan: must be a number"),
        ("ingest tilts.npy o.zarr --angles -30,0,30 --dark 1e300", "dark = 1e+300: must be"),
        ("simulate phantom:16,4,64 o.zarr --tilts 1000000000", "--tilts"),
        ("simulate phantom:16,4,64 o.zarr --shifts 1e300", "shifts = 1e+300: must be"),
        ("simulate phantom:16,4,64 o.zarr --noise gaussian:1e300", "from 0 to 1e6"),
    ],
)
def test_it_is_told_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    assert main(line.split()) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert words in told
    assert not (here / "o.zarr").exists()


def test_a_zero_byte_is_no_name() -> None:
    for path in ("a\0b.zarr", Path("a\0b.zarr"), "file:///a%00b.zarr"):
        with pytest.raises(InputError, match="names no place"):
            locate(path, "tilts")


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize("error", [MemoryError("no room"), OutOfMemoryError("no room")])
def test_memory_that_lacks_is_no_defect_of_the_program(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ddgm_dist.runs.build_problem._geometry", fails)
    assert main(["plan", "t.zarr"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "error: out of memory (no room); give less at a time" in told


def test_noise_too_small_for_a_float_caps_no_steps() -> None:
    found = make_schedule(
        N=2, K=7, sigma=(2.0, 1.0), added_noise=0.3, denoising_step=None, rule="noise-aware",
        step_size=1e-3, sigma_y=1e-200, data_weight_cap=3.0,
    )  # fmt: skip
    assert found.steps == (7.0, 7.0)
    assert math.isfinite(sum(found.added))


def test_bounds_of_settings_leave_room_for_any_unit() -> None:
    for value in (1e-25, 1e12):
        parse_config({"mean": value, "std": value, "sigma_y": value})
