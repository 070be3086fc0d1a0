"""The command line: each command is one library call, each mistake one line."""

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from ddgm_dist.alignment.judge import Check
from ddgm_dist.cli import main
from ddgm_dist.cli.app import create_app
from ddgm_dist.cli.exit_codes import NOT_EXPLAINED
from ddgm_dist.errors import DdgmError, InputError, PlanError, StorageError
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.provenance import LeftOut, Provenance

COMMANDS = (
    "demo",
    "simulate",
    "ingest",
    "check",
    "plan",
    "tune",
    "reconstruct",
    "submit",
    "status",
    "evaluate",
    "pyramid",
    "train",
    "presets",
    "manifest",
)

Replace = Callable[..., dict[str, Any]]


def call(words: str) -> int:
    return main(words.split())


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Replace a library function by one that takes what it takes and notes what it got."""

    def replace(module: str, name: str, returns: Any = None) -> dict[str, Any]:
        home = importlib.import_module(f"ddgm_dist.{module}")
        signature = inspect.signature(getattr(home, name))
        got: dict[str, Any] = {}

        def note(*args: Any, **named: Any) -> Any:
            got.update(signature.bind(*args, **named).arguments)
            if isinstance(returns, BaseException):
                raise returns
            return returns

        monkeypatch.setattr(home, name, note)
        return got

    return replace


SERIES = SimpleNamespace(shape=(61, 8, 400))
SUMMARY = SimpleNamespace(describe=lambda: "what happened")


def test_every_command_and_every_option_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    commands = get_command(create_app()).commands
    assert tuple(commands) == COMMANDS
    for name, command in commands.items():
        assert main([name, "--help"]) == 0
        assert name in capsys.readouterr().out
        assert command.help
        assert all(parameter.help for parameter in command.params), name


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in COMMANDS)


def test_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("fast", "default", "best", "classic", "paper"))
    assert "start=restored N=3" in shown
    assert main(["presets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fast"]["values"]["N"] == found["fast"]["denoiser_calls"] == 3


def test_an_unknown_preset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "t.zarr", "--preset", "quick"]) == 2
    error = capsys.readouterr().err
    assert "preset = quick: is no preset; there are fast, default, best, classic, paper" in error


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ddgm-dist ")


def test_simulate(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    got = replace("simulation.simulate", "simulate", SERIES)
    assert main(["simulate", "tissue.zarr", "tilts.zarr", "--noise", "gaussian:0.05"]) == 0
    assert capsys.readouterr().out == "tilts.zarr: 61 tilts of 8 x 400 pixels\n"
    angles = got.pop("angles")
    assert (len(angles), angles[0], angles[30], angles[-1]) == (61, -60.0, 0.0, 60.0)
    assert got == {
        "volume": "tissue.zarr",
        "out": Path("tilts.zarr"),
        "noise": "gaussian:0.05",
        "field": None,
        "rows": None,
        "shifts": 0.0,
        "seed": 0,
        "pixel_size_nm": None,
        "overwrite": False,
    }


def test_simulate_a_phantom_with_every_option(replace: Replace) -> None:
    got = replace("simulation.simulate", "simulate", SERIES)
    words = "simulate phantom:32,8,256 t.zarr --angles -10:10:5 --field 200 --rows 2:6"
    words += " --shifts 1.5 --seed 3 --pixel-size 10 --overwrite"
    assert call(words) == 0
    assert got["volume"].shape == (32, 8, 256)
    assert got["angles"] == (-10, -5, 0, 5, 10)
    assert (got["field"], got["rows"], got["shifts"]) == (200, slice(2, 6), 1.5)
    assert (got["seed"], got["pixel_size_nm"], got["overwrite"]) == (3, 10.0, True)


def test_simulate_takes_the_angles_of_a_file(replace: Replace, tmp_path: Path) -> None:
    got = replace("simulation.simulate", "simulate", SERIES)
    (tmp_path / "a.tlt").write_text("-3.5\n0\n 4\n")
    assert main(["simulate", "v.zarr", "t.zarr", "--angles", str(tmp_path / "a.tlt")]) == 0
    assert got["angles"] == (-3.5, 0.0, 4.0)


def test_ingest(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    record = Provenance()
    record.say("tilt angles", "-60 to 60 degrees", "needle.tlt")
    record.skip("needle.rawtlt", "needle.tlt is newer")
    record.left_out = [LeftOut(view, None, "--exclude") for view in (2, 6, 7, 8)]
    meta = TiltSeriesMeta((-60.0, 0.0, 60.0), pixel_size_nm=0.8, provenance=record)
    got = replace("acquisition.ingest", "ingest", SimpleNamespace(shape=(61, 8, 400), meta=meta))
    words = "ingest needle.npz t.zarr --thickness 96 --tilt-axis columns --impute-nonfinite"
    words += " --rows 8: --columns 4:252 --dark 860 --exclude 2,6-8 --counts auto --no-despike"
    assert main([*words.split(), "--angles", "-60,0,60", "--description", "a needle"]) == 0
    assert got == {
        "source": Path("needle.npz"),
        "out": Path("t.zarr"),
        "angles": (-60.0, 0.0, 60.0),
        "xf": None,
        "tilt_axis": "columns",
        "tilt_axis_angle": None,
        "axis_column": None,
        "angle_offset": None,
        "thickness": 96,
        "pixel_size_nm": None,
        "rows": slice(8, None),
        "columns": slice(4, 252),
        "bin": 1,
        "counts": "auto",
        "dark": 860.0,
        "flat": None,
        "log": False,
        "polarity": None,
        "exclude": (2, 6, 7, 8),
        "max_angle": None,
        "dataset": None,
        "strict": False,
        "despike": False,
        "impute_nonfinite": True,
        "workers": None,
        "description": "a needle",
        "overwrite": False,
        "progress": True,
    }
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "tilt angles -60 to 60 degrees needle.tlt" in lines
    assert "needle.rawtlt needle.tlt is newer" in lines
    assert "views 2,6-8 --exclude" in lines
    assert lines[-1] == "t.zarr: 61 tilts of 8 x 400 pixels"


def test_ingest_of_a_folder_shows_which_image_has_which_angle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "s").mkdir()
    noise = np.random.default_rng(0)
    for angle in (-60, -30, 0, 30, 60):
        pixels = noise.integers(90, 110, (8, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"s/s_{angle:+d}.png")
    words = ["ingest", str(tmp_path / "s"), str(tmp_path / "t.zarr"), "--angles=-60:60:30"]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "s_-60.png -> -60, s_+0.png -> 0, s_+60.png -> 60" in shown


def test_plan(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    got = replace("runs.plan", "plan", SUMMARY)
    assert call("plan t.zarr --set K=15 --no-despike --thickness 64 --memory 8GiB --workers 2") == 0
    assert capsys.readouterr().out == "what happened\n"
    assert got == {
        "tilts": Path("t.zarr"),
        "config": {"K": 15, "thickness": 64, "despike": False},
        "workers": 2,
        "memory": 8 * 2**30,
        "calibrate": False,
        "verify_input": False,
        "progress": True,
    }


def test_reconstruct(replace: Replace, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    got = replace("runs.reconstruct", "reconstruct", SUMMARY)
    config = tmp_path / "run.yaml"
    config.write_text("N: 50\nthickness: 32\nprior: {weights: mine.safetensors}\n")
    words = f"reconstruct t.zarr o.zarr --config {config} --set N=10 --set prior.window=128"
    words += " --thickness 64 --impute-nonfinite --no-despike --address h:6379"
    words += " --workers 4 --memory 2G --overwrite --verify-input -q"
    assert call(words) == 0
    assert capsys.readouterr().out == "what happened\n"
    assert got == {
        "tilts": Path("t.zarr"),
        "out": Path("o.zarr"),
        "config": {
            "N": 10,
            "thickness": 64,
            "impute_nonfinite": True,
            "despike": False,
            "prior": {"weights": "mine.safetensors", "window": 128},
        },
        "engine": "auto",
        "address": "h:6379",
        "workers": 4,
        "memory": 2 * 2**30,
        "overwrite": True,
        "verify_input": True,
        "progress": False,
    }


def test_reconstruct_says_nothing_that_was_not_asked(replace: Replace) -> None:
    got = replace("runs.reconstruct", "reconstruct", SUMMARY)
    assert call("reconstruct t.zarr o.zarr --engine local") == 0
    assert (got["config"], got["engine"], got["progress"]) == ({}, "local", True)
    assert (got["address"], got["workers"], got["memory"]) == (None, None, None)


def test_tune(replace: Replace, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = SimpleNamespace(describe=lambda: "a table", to_dict=lambda: {"chosen": 1})
    got = replace("tuning.tune", "tune", made)
    assert call("tune t.zarr --json") == 0
    assert json.loads(capsys.readouterr().out) == {"chosen": 1}
    assert (got["config"], got["grid"], got["budget"]) == ({}, None, None)
    assert (got["blocks"], got["rows"], got["folds"], got["seed"]) == (4, 2, 4, 0)
    assert (got["out"], got["overwrite"], got["progress"]) == (Path("tuned.yaml"), False, True)
    grid = tmp_path / "grid.yaml"
    grid.write_text("K: [1e1, 25]\n")
    words = (
        f"tune t.zarr --grid {grid} --budget 5 --blocks 2 --rows 3 --folds 6 --seed 9 --set N=20"
    )
    assert (
        call(words + " --thickness 64 --impute-nonfinite --no-despike --out c.yaml --overwrite -q")
        == 0
    )
    assert capsys.readouterr().out == "a table\nwritten: c.yaml\n"
    assert got["config"] == {"N": 20, "thickness": 64, "impute_nonfinite": True, "despike": False}
    assert (got["grid"], got["budget"], got["progress"]) == ({"K": [10.0, 25]}, 5.0, False)
    assert (got["blocks"], got["rows"], got["folds"], got["seed"]) == (2, 3, 6, 9)
    assert (got["out"], got["overwrite"]) == (Path("c.yaml"), True)
    grid.write_text("")
    assert call(f"tune t.zarr --grid {grid}") == 2


def test_evaluate(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"mse": 0.1, "psnr": 30.0, "ssim": 0.9, "region": "inner"}
    got = replace(
        "evaluation.evaluate", "evaluate", SimpleNamespace(psnr=30.0, to_dict=lambda: scores)
    )
    assert call("evaluate o.zarr truth.zarr --json --region 0:4,0:4,8:16") == 0
    assert json.loads(capsys.readouterr().out) == scores
    assert (got["volume"], got["reference"]) == (Path("o.zarr"), "truth.zarr")
    assert got["inner"] == "0:4,0:4,8:16"
    assert call("evaluate o.zarr truth.zarr") == 0
    assert "ssim    0.9\n" in capsys.readouterr().out
    assert (got["scheduler"], got["address"]) == ("threads", None)
    assert call("evaluate o.zarr truth.zarr --scheduler ray --address auto") == 0
    assert (got["scheduler"], got["address"]) == ("ray", "auto")


def test_pyramid(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    made = [SimpleNamespace(name="1", shape=(64, 5, 9), factor=(2, 2, 2))]
    got = replace("evaluation.pyramid", "build_pyramid", made)
    assert call("pyramid o.zarr") == 0
    assert capsys.readouterr().out == "level 1  64 x 5 x 9 voxels (z, y, x), each of 2 x 2 x 2\n"
    assert got["path"] == Path("o.zarr")
    assert (got["levels"], got["scheduler"], got["overwrite"]) == (None, "threads", False)
    words = "pyramid o.zarr --levels 3 --scheduler ray --address auto --overwrite"
    assert call(words) == 0
    assert (got["levels"], got["scheduler"], got["address"]) == (3, "ray", "auto")
    assert got["overwrite"] is True


def test_train(replace: Replace) -> None:
    got = replace("training.train", "train", SUMMARY)
    words = "train a b w.safetensors --steps 5 --validation c --planes yx --z-range 0:345 -q"
    assert call(words) == 0
    assert got["images"] == [Path("a"), Path("b")]
    assert (got["weights"], got["steps"], got["minutes"]) == (Path("w.safetensors"), 5, None)
    assert (got["validation"], got["planes"], got["resume"]) == ([Path("c")], ("yx",), True)
    assert (got["z_range"], got["overwrite"], got["progress"]) == (slice(0, 345), False, False)
    assert call("train a w.safetensors --minutes 1 --no-resume --overwrite") == 0
    assert (got["z_range"], got["resume"], got["overwrite"]) == (None, False, True)


def test_demo(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    got = replace("demo.demo", "run_demo")
    assert main(["demo", "somewhere"]) == 0
    assert got["directory"] == Path("somewhere")
    got["report"]("a line")
    assert capsys.readouterr().out == "a line\n"


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ddgm-dist: ")
    assert err.count("\n") == 1
    return err.removeprefix("ddgm-dist: ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("angles_deg[3]", float("nan"), "is not finite", "measure\nit again"), 2),
        (PlanError("memory", 100, "holds not even the smallest tile"), 2),
        (StorageError("the disk is full"), 2),
        (DdgmError("something else"), 1),
        (PermissionError(13, "Permission denied", "o.zarr"), 2),
    ],
)
def test_an_error_is_one_line(
    error: Exception, status: int, replace: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    replace("runs.reconstruct", "reconstruct", error)
    assert main(["reconstruct", "t.zarr", "o.zarr"]) == status
    assert one_line(capsys) == f"error: {' '.join(str(error).split())}\n"


def test_traceback_shows_where(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    replace("runs.reconstruct", "reconstruct", InputError("t.zarr", "t.zarr", "is missing"))
    assert main(["--traceback", "reconstruct", "t.zarr", "o.zarr"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("\nddgm-dist: error: t.zarr = t.zarr: is missing\n")


def test_a_defect_keeps_its_stack(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    replace("runs.reconstruct", "reconstruct", ZeroDivisionError("oh"))
    assert main(["reconstruct", "t.zarr", "o.zarr"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("\nddgm-dist: internal error: ZeroDivisionError: oh\n")


def test_ctrl_c_is_one_line(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    replace("runs.reconstruct", "reconstruct", KeyboardInterrupt())
    assert main(["reconstruct", "t.zarr", "o.zarr"]) == 130
    assert one_line(capsys) == (
        "interrupted; run the same command again: it goes on from what was kept\n"
    )


def test_a_command_that_keeps_nothing_promises_nothing(
    replace: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    replace("evaluation.evaluate", "evaluate", KeyboardInterrupt())
    assert main(["evaluate", "a.zarr", "b.zarr"]) == 130
    assert one_line(capsys) == "interrupted\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("bogus", "bogus"),
        ("reconstruct t.zarr", "OUT.zarr"),
        ("reconstruct t.zarr o.zarr --bogus", "--bogus"),
        ("reconstruct t.zarr o.zarr --engine dask", "--engine"),
        ("reconstruct t.zarr o.zarr --engine local --workers 2", "--workers"),
        ("reconstruct t.zarr o.zarr --engine local --address a:1", "--address"),
        ("reconstruct t.zarr o.zarr --workers 0", "--workers"),
        ("reconstruct t.zarr o.zarr --thickness 0", "--thickness"),
        ("reconstruct t.zarr o.zarr --memory much", "--memory"),
        ("reconstruct t.zarr o.zarr --set K", "--set"),
        ("reconstruct t.zarr o.zarr --set K=[1", "--set"),
        ("reconstruct t.zarr o.zarr --config /nowhere/run.yaml", "--config"),
        ("simulate v.zarr t.zarr --angles 0:10", "--angles"),
        ("simulate v.zarr t.zarr --angles nowhere.tlt", "--angles"),
        ("simulate v.zarr t.zarr --angles -60:60:2 --tilts 5", "--angles"),
        ("simulate v.zarr t.zarr --rows 4:4", "--rows"),
        ("simulate phantom:3,4 t.zarr", "VOLUME"),
        ("ingest needle.npz t.zarr --angles nowhere.tlt", "--angles"),
        ("ingest needle.npz t.zarr --tilt-axis z", "--tilt-axis"),
        ("train w.safetensors", "IMAGES"),
        ("tune t.zarr --grid /nowhere/grid.yaml", "--grid"),
        ("tune t.zarr --blocks 0", "--blocks"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    words: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words) == 2
    line = one_line(capsys)
    assert line.startswith("error: ")
    assert named in line


GOOD = Check(axis_deg=0.4, shifts_px=((0.0, 0.1),), shift_rms_px=0.07, alike=0.9)
BAD = Check(findings=("views are shifted",), shifts_found=True, applied=True)


def test_check(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    got = replace("alignment.check", "check", GOOD)
    assert call("check t.zarr") == 0
    assert got == {"tilts": Path("t.zarr"), "apply": False, "progress": True}
    shown = capsys.readouterr().out
    assert "0.4 degrees from the vertical" in shown
    assert "axis offset     not clear" in shown
    assert "nothing looks wrong" in shown
    assert call("check t.zarr --strict --apply") == 0
    assert got["apply"] is True
    assert "nothing is written" in capsys.readouterr().out


def test_check_warns(replace: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    replace("alignment.check", "check", BAD)
    assert call("check t.zarr --apply") == 0
    shown = capsys.readouterr().out
    assert "warning: views are shifted" in shown
    assert "are written" in shown
    assert call("check t.zarr --strict") == NOT_EXPLAINED
    capsys.readouterr()
    assert call("check t.zarr --json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["good"] is False
    assert values["findings"] == ["views are shifted"]
