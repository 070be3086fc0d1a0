"""A store is not made under the name of another format's file, whoever makes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddgm_dist as dd
from ddgm_dist.cli.entry import main
from ddgm_dist.deploy.command import Run
from ddgm_dist.errors import InputError
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.remote.submit import submit
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.series import write_tilt_series

FOREIGN = [
    "mrc", "mrcs", "rec", "st", "ali", "map", "MRC", "tif", "tiff", "TIFF", "h5", "hdf5", "nxs",
    "npy", "npz", "png", "raw", "em", "zip", "tar.gz", "n5",
]  # fmt: skip


@pytest.mark.parametrize("suffix", FOREIGN)
def test_the_suffix_of_another_format_is_named(suffix: str) -> None:
    for path in (f"folder/out.{suffix}", f"out.{suffix}/", f"s3://bucket/out.{suffix}"):
        with pytest.raises(InputError, match=r"what is written is a Zarr store") as told:
            check_store_name(path)
        last = suffix.lower().rpartition(".")[2]
        assert f"ends with .{last}, but" in str(told.value)
        assert ".zarr" in told.value.hint


@pytest.mark.parametrize(
    "name", ["out", "out.zarr", "out.ome.zarr", "run_1.5", "a.mrc/out.zarr", "2024.05.01", ".zarr"]
)
def test_other_names_are_fine(name: str) -> None:
    check_store_name(name)
    check_store_name(Path(name))


WRITERS: dict[str, Callable[[Path], Any]] = {
    # None of the inputs is there: the name is looked at first.
    "ingest": lambda out: dd.ingest("absent.mrc", out),
    "simulate": lambda out: dd.simulate("absent.npy", out),
    "reconstruct": lambda out: dd.reconstruct("absent.zarr", out, engine="local"),
    "write_tilt_series": lambda out: write_tilt_series(
        out, np.zeros((1, 8, 8), np.float32), TiltSeriesMeta((0.0,))
    ),
    "submit": lambda out: submit(None, "/absent.zarr", out),  # type: ignore[arg-type]
    "manifest": lambda out: Run("/absent.zarr", str(out)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_looks_at_the_name_first(tmp_path: Path, writer: str) -> None:
    out = tmp_path / "out.mrc"
    with pytest.raises(
        InputError, match=r"^out = .*out\.mrc: ends with \.mrc, .*; name it out\.zarr$"
    ):
        WRITERS[writer](out)
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["ingest", "absent.mrc"],
        ["simulate", "phantom:16,4,64"],
        ["reconstruct", "absent.zarr"],
    ],
    ids=lambda words: words[0],
)
def test_on_the_command_line_it_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main([*words, str(tmp_path / "out.mrc")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ends with .mrc, but what is written is a Zarr store" in line
    assert list(tmp_path.iterdir()) == []
