"""The training that a user starts: images in; weights, recipe and curve out."""

import functools
import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from rich.console import Console

import ddgm_dist
from ddgm_dist.cli import main
from ddgm_dist.errors import InputError
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import load_weights
from ddgm_dist.training.images import read_images
from ddgm_dist.training.loop import TrainingHistory, TrainingOptions
from ddgm_dist.training.progress import show_progress
from ddgm_dist.training.result import write_trained
from ddgm_dist.training.train import train
from tests.training.small_training import TINY, run, tissue

# The attribute ddgm_dist.training.train is the function, which hides the module of its name.
MODULE = importlib.import_module("ddgm_dist.training.train")


def test_what_is_written(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "judge.npy", tissue().astype(np.uint16))
    weights = tmp_path / "new" / "w.safetensors"
    result = run(
        folder,
        weights,
        validation=[tmp_path / "judge.npy"],
        z_range=slice(2, 18),
        attribution="me",
    )
    assert sorted(p.name for p in weights.parent.iterdir()) == ["w.json", "w.png", "w.safetensors"]
    recipe = json.loads(weights.with_suffix(".json").read_text())
    assert result.recipe == recipe
    assert recipe["sha256"] == result.digest == load_weights(weights).digest
    data, judged = recipe["data"][0], recipe["validation_data"][0]
    assert (data["name"], data["dtype"], data["shape"]) == ("sections", "uint8", [16, 24, 28])
    assert (data["first_section"], data["planes"]) == (2, ["yx", "zx", "zy"])
    assert data["mean"] == pytest.approx(tissue()[2:18].mean())
    assert (judged["name"], judged["dtype"], judged["shape"][0]) == ("judge.npy", "uint16", 20)
    assert recipe["attribution"] == "me"
    assert "statistics" in recipe  # null for images that are too small
    assert recipe["options"]["patch"] == 16
    figures = recipe["training"]
    assert (figures["steps"], figures["torch"]) == (2, torch.__version__)
    assert figures["validation_loss"][0][0] == 2
    assert str(tmp_path) not in weights.with_suffix(".json").read_text()
    with Image.open(weights.with_suffix(".png")) as curve:
        assert curve.size[0] > 500
    text = result.describe()
    assert "2 steps" in text
    assert "validation loss by sigma: 0.01-0.03: " in text
    assert load_denoiser(str(weights)).digest == result.digest


def test_every_kind_of_volume_is_read_as_it_is(folder: Path, tmp_path: Path) -> None:
    values = tissue()
    np.save(tmp_path / "v.npy", values.astype(">u2"))
    zarr.create_array(str(tmp_path / "v.zarr"), data=values.astype(np.float64) / 3)
    (tmp_path / "tiffs").mkdir()
    for z in range(3):
        tifffile.imwrite(tmp_path / "tiffs" / f"{z}.tif", values[z].astype(np.uint16) * 257)
    assert np.array_equal(read_images(folder), values)
    assert read_images(folder).dtype == np.uint8
    assert np.array_equal(read_images(tmp_path / "v.npy"), values)
    assert read_images(tmp_path / "v.npy").dtype == np.dtype("=u2")
    floats = read_images(tmp_path / "v.zarr", slice(5, None))
    assert floats.dtype == np.float32
    assert np.array_equal(floats, (values[5:] / 3).astype(np.float32))
    assert np.array_equal(read_images(tmp_path / "tiffs"), values[:3].astype(np.uint16) * 257)


def test_reading_goes_block_by_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddgm_dist.training.images._BLOCK_BYTES", 4 * 24 * 28 * 3)
    assert np.array_equal(read_images(folder, slice(1, 18)), tissue()[1:18])


@contextmanager
def stop_at_step_three(
    *_: object, **__: object
) -> Iterator[Callable[[TrainingHistory, float], None]]:
    def on_step(history: TrainingHistory, done: float) -> None:
        if history.step == 3:
            raise KeyboardInterrupt

    yield on_step


def test_interrupted_it_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        MODULE, "TrainingOptions", functools.partial(TrainingOptions, checkpoint_every=0)
    )
    whole = run(folder, tmp_path / "whole.safetensors", steps=4)
    weights = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "show_progress", stop_at_step_three)
        with pytest.raises(KeyboardInterrupt):
            run(folder, weights, steps=4)
    assert sorted(p.name for p in tmp_path.glob("w.*")) == ["w.ckpt", "w.ckpt.json"]
    for others, why in [({"seed": 1}, "seed is 0, not 1"), ({"z_range": slice(1, 20)}, "data")]:
        with pytest.raises(InputError, match=f"is of another training.*{why}"):
            run(folder, weights, steps=4, **others)
    assert run(folder, weights, steps=4).digest == whole.digest
    assert sorted(p.suffix for p in tmp_path.glob("w.*")) == [".json", ".png", ".safetensors"]


def test_fresh_forgets_the_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "show_progress", stop_at_step_three)
        with pytest.raises(KeyboardInterrupt):
            run(folder, weights, steps=4)
    weights.with_suffix(".ckpt").write_text("damaged")
    with pytest.raises(InputError, match="is damaged, or is not"):
        run(folder, weights)
    assert run(folder, weights, resume=False).weights == weights
    assert sorted(p.suffix for p in tmp_path.glob("w.*")) == [".json", ".png", ".safetensors"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["w.ckpt", "w.ckpt.json"])
@pytest.mark.parametrize("content", ["mine", "[]", "{}", '{"data": 1}', "\xff"])
def test_files_of_no_training_are_neither_deleted_nor_replaced(
    folder: Path, tmp_path: Path, content: str, name: str, resume: bool, overwrite: bool
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=rf"{name} beside it|w\.ckpt: is damaged, or is not"):
        run(folder, tmp_path / "w.safetensors", resume=resume, overwrite=overwrite)
    assert [path.name for path in tmp_path.glob("w.*")] == [name]
    assert (tmp_path / name).read_bytes() == content.encode("latin-1")


def test_finished_weights_are_kept(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    first = run(folder, weights)
    stamp = weights.stat().st_mtime_ns
    assert run(folder, weights).digest == first.digest
    assert weights.stat().st_mtime_ns == stamp  # nothing was trained again
    for others, why in [
        ({"seed": 1}, "exists already, seed is 0, not 1"),
        ({"steps": 3}, "steps is 2, not 3"),
        ({"resume": False}, "trained afresh"),
    ]:
        with pytest.raises(InputError, match=why):
            run(folder, weights, **others)
    assert run(folder, weights, seed=1, overwrite=True).digest != first.digest
    weights.write_bytes(b"something of somebody's")
    with pytest.raises(InputError, match=r"exists already, and is damaged"):
        run(folder, weights)


@pytest.mark.parametrize(
    ("arguments", "argument", "why"),
    [
        ({"patch": 20 + 1}, "patch", "multiple of the network's 2 pixels"),
        ({"patch": 32}, "images", "smaller than a patch of 32 pixels in every plane"),
        ({"planes": ("xz",)}, "planes", "is not one of yx, zx, zy"),
        ({"planes": ()}, "planes", "is empty"),
        ({"z_range": slice(10, 30)}, "z_range", "10:30: is not a range within the 20 sections"),
        ({"z_range": slice(0, 20, 2)}, "z_range", "0:20:2"),
        ({"z_range": slice(20, None)}, "z_range", "20:20"),
        ({"z_range": (20, None)}, "z_range", "20:20"),
        ({"z_range": (0, 10, 2)}, "z_range", "is no range of sections; give a pair"),
        ({"z_range": (0.0, 10.0)}, "z_range", "is no range of sections"),
        ({"z_range": "0:10"}, "z_range", "is no range of sections"),
        ({"z_range": range(2)}, "z_range", "is no range of sections"),
        ({"z_range": 10}, "z_range", "is no range of sections"),
        ({"planes": "yx"}, "planes", "must be a list of planes"),
        ({"kind": "restorer"}, "spec", "UNetSpec: is no architecture of a restorer"),
        ({"kind": "both"}, "spec", "kind both trains two"),
        ({"kind": "both", "spec": None, "patch": 24}, "patch", "16 pixels .the restorer's"),
        ({"kind": "restore"}, "kind", "is none of denoiser, restorer, both"),
        ({"steps": None}, "steps", "give a budget"),
        ({"validation": "sections"}, "validation", "must be a list of paths"),
        ({"validation": ["nowhere"]}, "volume", "does not exist"),
    ],
)
def test_what_is_wrong_is_said_before_training(
    folder: Path, tmp_path: Path, arguments: dict[str, Any], argument: str, why: str
) -> None:
    with pytest.raises(InputError, match=why) as refused:
        run(folder, tmp_path / "w.safetensors", **arguments)
    assert refused.value.argument == argument
    assert not list(tmp_path.glob("w.*"))


def test_images_that_cannot_be_trained_on(tmp_path: Path) -> None:
    bad = tissue().astype(np.float32)
    bad[3, 4, 5] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(InputError, match=r"bad\.npy: holds NaN"):
        run(tmp_path / "bad.npy", tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        run(tmp_path / "bad.npy", tmp_path / "w.pt")
    with pytest.raises(InputError, match="is empty"):
        train([], tmp_path / "w.safetensors", steps=1)


def test_a_checkpoint_can_be_turned_into_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        trained = run(folder, weights)
    state = torch.load(weights.with_suffix(".ckpt"), weights_only=True)
    assert sorted(state) == ["average", "history", "net", "optimizer", "spec"]
    net = UNet(UNetSpec(**state["spec"]))
    net.load_state_dict(state["average"])
    result = write_trained(
        tmp_path / "shipped.safetensors",
        net,
        TrainingHistory(**state["history"]),
        TrainingOptions(steps=2),
        trained.recipe["data"],
        "somebody",
    )
    assert result.digest == trained.digest
    assert result.recipe["training"]["steps"] == 2


def test_weights_that_diverged_are_not_written(tmp_path: Path) -> None:
    net = UNet(TINY).requires_grad_(False)
    net.tail.bias.fill_(1e6)  # infinite in half precision
    with pytest.raises(InputError, match="training diverged"):
        write_trained(
            tmp_path / "w.safetensors", net, TrainingHistory(), TrainingOptions(steps=1), [], ""
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_step_loss_and_speed(terminal: bool, tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w+")
    console = Console(file=log, force_terminal=terminal, width=120)
    history = TrainingHistory(step=100, seconds=50.0)
    with log:
        with show_progress(8, console) as on_step:
            for _ in range(3):
                history.step, history.seconds = history.step + 1, history.seconds + 0.5
                on_step(history, history.step / 103)
            history.train.append((103, 0.25))
            on_step(history, 1.0)
        log.seek(0)
        shown = log.read()
    assert "step 103, loss 0.2500, 16.0 patches/s" in shown
    assert "100%" in shown
    if not terminal:
        assert shown.count("\n") == 3  # the first step, the last ones; the others within a minute


def test_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.safetensors"
    words = ["train", str(folder), str(weights), "--steps", "1", "--patch", "16", "--batch", "1"]
    assert main([*words, "--z-range", "0:16", "-q"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{weights}: ")
    assert err == ""
    assert main([*words, "--z-range", "0:17"]) == 2
    assert "data differs" in capsys.readouterr().err
    assert ddgm_dist.train is train


def test_variety_is_another_training(folder: Path, tmp_path: Path) -> None:
    plain, varied = tmp_path / "plain.safetensors", tmp_path / "varied.safetensors"
    first, second = run(folder, plain), run(folder, varied, augment=1.0)
    assert first.digest != second.digest
    assert "augment" not in first.recipe["data"][0]
    assert second.recipe["data"][0]["augment"] == 1.0
    for weights, augment in ((plain, 1.0), (varied, 0.0)):
        with pytest.raises(InputError, match="data differs"):
            run(folder, weights, augment=augment)
    with pytest.raises(InputError, match="augment"):
        run(folder, tmp_path / "no.safetensors", augment=1.5)
