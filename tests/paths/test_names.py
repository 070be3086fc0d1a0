"""Names that are not UTF-8, or that the locale cannot say: it works, or one line says why not."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from ddgm_dist.cli.entry import main
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.object_store import kvstore_spec
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.series import write_tilt_series

LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "tilts.zarr"
    data = np.random.default_rng(0).normal(10, 1, (9, 4, 96)).astype(np.float32)
    angles = tuple(np.linspace(-40, 40, 9))
    write_tilt_series(path, data, TiltSeriesMeta(angles, thickness_px=12))
    return path


@pytest.fixture
def latin(tilts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that we are in: a tilt series, and a volume as a store and as a file, so named."""
    try:
        shutil.copytree(tilts, tmp_path / f"{LATIN}.zarr")
    except OSError:
        pytest.skip("this file system has no such names")
    np.save(tmp_path / f"{LATIN}.npy", np.ones((9, 4, 96), np.float32))
    volume = zarr.create_array(tmp_path / f"v-{LATIN}.zarr", shape=(8, 8, 32), dtype="f4")
    volume[:] = 1
    (tmp_path / f"{LATIN}.rawtlt").write_text("\n".join(map(str, range(-40, 50, 10))))
    shutil.copytree(tilts, tmp_path / "tilts.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        f"plan {LATIN}.zarr",
        f"reconstruct {LATIN}.zarr out.zarr --engine local",
        f"reconstruct tilts.zarr o-{LATIN}.zarr --engine local",
        f"reconstruct tilts.zarr {LATIN}/below/out.zarr --engine local",
        f"tune {LATIN}.zarr",
        f"status v-{LATIN}.zarr",
        f"status v-{LATIN}.zarr --verify",
        f"evaluate v-{LATIN}.zarr v-{LATIN}.zarr",
        f"evaluate {LATIN}.npy v-{LATIN}.zarr",
        f"pyramid v-{LATIN}.zarr",
        f"simulate v-{LATIN}.zarr out.zarr",
        f"simulate {LATIN}.npy o-{LATIN}.zarr",
        f"ingest {LATIN}.npy o-{LATIN}.zarr --angles {LATIN}.rawtlt --thickness 8",
        f"train v-{LATIN}.zarr weights.safetensors --steps 1",
        f"demo {LATIN}",
    ],
)
def test_a_store_whose_name_is_not_utf8_is_refused_in_one_line(
    words: str, latin: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    *_, told = capfd.readouterr().err.splitlines()
    assert "must be UTF-8" in told
    assert "caf\\xe9" in told
    assert not (latin / "out.zarr").exists()


@pytest.mark.parametrize(
    "words",
    [
        f"simulate {LATIN}.npy out.zarr",
        f"ingest {LATIN}.npy out.zarr --angles {LATIN}.rawtlt --thickness 8",
        f"plan tilts.zarr --config {LATIN}.yaml",
    ],
)
def test_other_files_may_have_any_name(words: str, latin: Path) -> None:
    (latin / f"{LATIN}.yaml").write_text("N: 2\n")
    assert main(words.split()) == 0


def test_only_stores_are_refused_by_their_names(latin: Path) -> None:
    assert locate(f"{LATIN}.npy", "volume") == latin / f"{LATIN}.npy"
    (latin / LATIN).mkdir()
    folder = locate(LATIN, "source")  # of images, say
    with pytest.raises(InputError, match="UTF-8"):
        kvstore_spec(folder)
    with pytest.raises(InputError, match=r"out = .*UTF-8"):
        locate(f"{LATIN}/none.zarr", "out")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_denoiser_may_have_any_name(latin: Path) -> None:
    script = torch.jit.script(torch.nn.Identity())
    torch.jit.save(script, str(latin / "plain.pt"))
    (latin / "plain.pt").rename(latin / f"{LATIN}.pt")
    assert load_denoiser(str(latin / f"{LATIN}.pt")).digest
    (latin / "folder.pt").mkdir()
    with pytest.raises(InputError, match="is not a TorchScript file"):
        load_denoiser(str(latin / "folder.pt"))


def test_an_ascii_locale_takes_utf8_names(tilts: Path, tmp_path: Path) -> None:
    """There Python's names have a stand-in for each byte beyond ASCII; the bytes are what counts."""
    shutil.copytree(tilts, tmp_path / "café.zarr")
    ascii_only = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii:strict",
    }
    script = "import sys; from ddgm_dist.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "plan", "café.zarr"],
        env={**os.environ, **ascii_only},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_standard_output_cannot_say_is_escaped(
    latin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(latin / f"{LATIN}.npy", np.zeros((1, 160, 160), np.float32) + np.arange(160) % 7)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
    words = ["train", f"{LATIN}.npy", f"w-{LATIN}.safetensors", "--steps", "1", "--quiet"]
    assert main(words) == 0
    sys.stdout.flush()
    assert b"w-caf\\udce9.safetensors" in written.getvalue()
    assert (latin / f"w-{LATIN}.safetensors").is_file()
