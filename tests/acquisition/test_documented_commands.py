"""Every command of the pages on users' own data runs as it is written."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from ddgm_dist.cli import main
from tests.acquisition.serialem import ANGLES, phantom_projections, write_serialem

DOCS = Path(__file__).parents[2] / "docs"
ROWS = 8


def commands(page, section=""):
    """Commands in the indented blocks of a page, or of one of its sections."""
    text = (DOCS / page).read_text()
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    chosen = parts[:1] + [p for p in parts[1:] if p.split("\n")[0] != "Public series"]
    if section:
        chosen = [p for p in parts if p.startswith(section)]
    found = re.findall(r"^    (ddgm-dist .*)$", "\n".join(chosen), flags=re.MULTILINE)
    assert found
    return [shlex.split(line)[1:] for line in found]


def run_all(lines, monkeypatch, folder):
    monkeypatch.chdir(folder)
    for words in lines:
        # In this process, and coarsely: neither a cluster nor the quality is the question here.
        more = ["--engine", "local", "--set", "N=6"] if words[0] == "reconstruct" else []
        assert main([*words, *more]) == 0, words


@pytest.fixture(scope="module")
def phantom():
    return phantom_projections(ROWS)


@pytest.mark.slow
def test_serialem_and_imod(tmp_path, monkeypatch, phantom, capsys):
    write_serialem(tmp_path, *phantom, 0.0, shift=0.0, height=ROWS)
    run_all(commands("imod.md"), monkeypatch, tmp_path)
    out = capsys.readouterr().out
    assert "ts.xf" in out
    assert re.search("data (NOT )?explained", out)


@pytest.mark.slow
def test_aretomo(tmp_path, monkeypatch, phantom, capsys):
    recorded = write_serialem(tmp_path, *phantom, 0.0, shift=0.0, height=ROWS, companions=False)
    rows = "".join(
        f"{i:5d} 0.0 1.0 0.0 0.0 1.0 1.0 1.0 0.0 {a:8.2f}\n" for i, a in enumerate(recorded.order)
    )
    size = f"# RawSize = 128 {ROWS} {len(ANGLES)}\n# NumPatches = 0\n"
    columns = "# SEC  ROT  GMAG  TX  TY  SMEAN  SFIT  SCALE  BASE  TILT\n"
    text = f"# AreTomo Alignment / Priims bprmMn\n{size}{columns}{rows}"
    (tmp_path / "ts.aln").write_text(text)
    run_all(commands("aretomo.md"), monkeypatch, tmp_path)
    assert "ts.aln" in capsys.readouterr().out


@pytest.mark.slow
def test_hdf5(tmp_path, monkeypatch, capsys):
    """A disk of 60 columns, whose axis is at column 82.5 of 160."""
    theta, u = np.deg2rad(np.arange(0.0, 180.0, 3)), np.arange(160) - 82.5
    line = 2 * np.sqrt(np.maximum(0, 30.0**2 - (u[None] - 9 * np.cos(theta)[:, None]) ** 2))
    counts = 20000 * np.exp(-0.01 * line)[:, None, :] * np.ones((1, 4, 1)) + 100
    noisy = np.random.default_rng(0).poisson(counts)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = noisy.astype(np.uint16)
        file["exchange/data_white"] = np.full((5, 4, 160), 20100, np.uint16)
        file["exchange/data_dark"] = np.full((5, 4, 160), 100, np.uint16)
        file["exchange/theta"] = np.rad2deg(theta)
        file["exchange/theta"].attrs["units"] = "deg"
    part = noisy[:20].astype(np.float32)
    zarr.save_array(tmp_path / "projections.zarr", part)
    (tmp_path / "angles.txt").write_text("\n".join(str(a) for a in np.arange(-30, 30, 3)))
    run_all(commands("hdf5.md"), monkeypatch, tmp_path)
    assert "mean of 5 flat frames" in capsys.readouterr().out


@pytest.mark.slow
def test_public_series(tmp_path, monkeypatch, shared_data, capsys):
    for name in (
        "xray_tilt/tooth.h5",
        "xray_tilt/capillary_24737.npz",
        "tilt_haadf_needle/haadf_needle.npz",
    ):
        (tmp_path / Path(name).name).symlink_to(shared_data / name)
    run_all(commands("hdf5.md", "Public series"), monkeypatch, tmp_path)
    assert "vacuum beside" in capsys.readouterr().out
