"""A denoiser, a restorer or both; sections to train on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.cli import main
from ddgm_dist.errors import InputError
from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec
from ddgm_dist.prior.trained_ranges import TrainedRanges
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import load_restorer_weights, load_weights
from ddgm_dist.training import kinds
from ddgm_dist.training.images import read_images
from ddgm_dist.training.loop import TrainingHistory, TrainingOptions
from ddgm_dist.training.restoring import RestoringTask
from ddgm_dist.training.result import write_trained
from tests.training.small_training import TINY, run, tissue


def test_a_restorer_is_trained_as_a_denoiser_is(folder: Path, tmp_path: Path) -> None:
    spec = RestoringUNetSpec((32, 32), (1,), (1,), 1, neighbours=1)
    weights = tmp_path / "r.safetensors"
    result = run(folder, weights, kind="restorer", spec=spec, batch=1)
    assert result.recipe["trained_for"]["thickness"] == [32, 256]
    assert "sigma_range" not in result.recipe
    assert load_restorer_weights(weights).digest == result.digest
    # Asked for again it is finished; as a denoiser it is another training.
    assert run(folder, weights, kind="restorer", spec=spec, batch=1) == result
    with pytest.raises(InputError, match="exists already"):
        run(folder, weights)


@pytest.mark.parametrize("sections", [(2, 18), [2, 18], (np.int64(2), np.int64(18))])
def test_sections_are_a_pair_or_a_slice(folder: Path, tmp_path: Path, sections: Any) -> None:
    first = run(folder, tmp_path / "w.safetensors", z_range=slice(2, 18))
    # The same request: it has finished.
    assert run(folder, tmp_path / "w.safetensors", z_range=sections) == first
    assert np.array_equal(read_images(folder, (18, None)), tissue()[18:])


@dataclass(frozen=True)
class Tiny(UNetSpec):
    channels: tuple[int, ...] = (32, 32)
    encoder_blocks: tuple[int, ...] = (1,)
    decoder_blocks: tuple[int, ...] = (1,)
    middle_blocks: int = 1


@dataclass(frozen=True)
class TinyRestoring(RestoringUNetSpec):
    channels: tuple[int, ...] = (32, 32)
    encoder_blocks: tuple[int, ...] = (1,)
    decoder_blocks: tuple[int, ...] = (1,)
    middle_blocks: int = 1
    neighbours: int = 1


def test_a_recipe_says_what_its_task_was_trained_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(name: str) -> dict[str, Any]:
        weights = tmp_path / f"{name}.safetensors"
        return run(folder, weights, kind="restorer", spec=TinyRestoring(), batch=1).recipe

    wide = recipe("wide")["trained_for"]
    known = TrainedRanges.from_dict(wide, "wide.json")
    assert known is not None
    assert not known.unknown
    restricted = {**wide, "thickness": (48, 64)}
    monkeypatch.setattr(RestoringTask, "trained_for", property(lambda task: restricted))
    assert recipe("narrow")["trained_for"] == {**wide, "thickness": [48, 64]}
    net, options = RestoringUNet(TinyRestoring()), TrainingOptions(steps=1)
    arguments = (TrainingHistory(), options, [], "")
    with pytest.raises(InputError, match=r"^trained_for = None: is needed of a restorer"):
        write_trained(tmp_path / "a.safetensors", net, *arguments)
    with pytest.raises(InputError, match=r"^trained_for = .*is of a restorer, and this is none"):
        write_trained(tmp_path / "a.safetensors", UNet(TINY), *arguments, trained_for=restricted)


BOTH = ["w.json", "w.png", "w.restorer.json", "w.restorer.png"]
BOTH += ["w.restorer.safetensors", "w.safetensors"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default networks as small as can be."""
    monkeypatch.setitem(kinds._SPECS, "denoiser", Tiny)
    monkeypatch.setitem(kinds._SPECS, "restorer", TinyRestoring)


@pytest.mark.usefixtures("small")
def test_both_are_what_each_alone_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, Any] = {"spec": None, "batch": 1, "z_range": (0, 16)}
    result = run(folder, tmp_path / "w.safetensors", kind="both", **arguments)
    assert sorted(path.name for path in tmp_path.glob("w.*")) == BOTH
    assert result.restorer is not None
    assert "augment" not in result.recipe["data"][0]
    assert result.restorer.recipe["data"][0]["augment"] == 0.3
    assert result.restorer.weights == tmp_path / "w.restorer.safetensors"
    for kind, found in (("denoiser", result), ("restorer", result.restorer)):
        alone = run(folder, tmp_path / f"{kind}.safetensors", kind=kind, **arguments)
        assert (alone.digest, alone.restorer) == (found.digest, None)
        assert f"{found.weights}: " in result.describe()
    assert run(folder, tmp_path / "w.safetensors", kind="both", **arguments) == result
    # The command is the same, and says the same.
    weights = tmp_path / "of_command" / "w.safetensors"
    words = ["train", str(folder), str(weights), "--steps", "2", "--patch", "16", "--batch", "1"]
    assert main([*words, "--z-range", "0:16", "--kind", "both", "-q"]) == 0
    assert sorted(path.name for path in weights.parent.iterdir()) == BOTH
    assert load_weights(weights).digest == result.digest
    beside = weights.with_name("w.restorer.safetensors")
    assert load_restorer_weights(beside).digest == result.restorer.digest
    assert capsys.readouterr().out.count("parameters, 2 steps") == 2


@pytest.mark.usefixtures("small")
def test_nothing_is_trained_where_the_second_would_be_refused(folder: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"kind": "both", "spec": None, "batch": 1}
    (tmp_path / "w.restorer.ckpt.json").write_text("mine")
    with pytest.raises(InputError, match=r"w\.restorer\.ckpt\.json beside it would be"):
        run(folder, tmp_path / "w.safetensors", **arguments)
    assert [path.name for path in tmp_path.glob("w.*")] == ["w.restorer.ckpt.json"]
    (tmp_path / "w.restorer.ckpt.json").unlink()
    (tmp_path / "w.restorer.png").write_text("mine")
    with pytest.raises(InputError, match=r"w\.restorer\.png beside it would be"):
        run(folder, tmp_path / "w.safetensors", **arguments)
    (tmp_path / "w.restorer.png").unlink()
    # A checkpoint of another training, and finished weights of another one.
    other = tmp_path / "w.restorer.safetensors"
    run(folder, other, kind="restorer", spec=None, batch=1, seed=1)
    with pytest.raises(InputError, match=r"exists already, .*seed is 1, not 0"):
        run(folder, tmp_path / "w.safetensors", **arguments)
    recipe = json.loads(other.with_suffix(".json").read_text())
    for path in tmp_path.glob("w.*"):
        path.unlink()
    (tmp_path / "w.restorer.ckpt").write_text("a state")
    (tmp_path / "w.restorer.ckpt.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="is of another training: seed is 1, not 0"):
        run(folder, tmp_path / "w.safetensors", **arguments)
    left = ["w.restorer.ckpt", "w.restorer.ckpt.json"]
    assert sorted(path.name for path in tmp_path.glob("w.*")) == left


@pytest.mark.parametrize("kind", ["denoiser", "restorer"])
def test_a_training_begins_from_trained_weights(folder: Path, tmp_path: Path, kind: Any) -> None:
    spec: Any = {"denoiser": TINY, "restorer": TinyRestoring()}[kind]
    load: Any = {"denoiser": load_weights, "restorer": load_restorer_weights}[kind]
    keys: dict[str, Any] = {"kind": kind, "batch": 1, "spec": None}
    first = run(folder, tmp_path / "a.safetensors", **{**keys, "spec": spec}, attribution="theirs")
    begin = str(first.weights)
    # A step so small that nothing moves: the weights are those it began from, architecture and all.
    still = run(
        folder,
        tmp_path / "b.safetensors",
        begin_from=begin,
        learning_rate=1e-30,
        attribution="mine",
        **keys,
    )
    before, after = (load(result.weights).net.state_dict() for result in (first, still))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert still.recipe["begun_from"] == first.digest
    assert (
        still.recipe["attribution"] == f"mine; begun from weights of: {first.recipe['attribution']}"
    )
    assert "begun_from" not in first.recipe
    assert still.recipe["options"]["learning_rate"] == 1e-30
    # Of other weights it is another training.
    moved = run(folder, tmp_path / "c.safetensors", begin_from=begin, **keys)
    assert moved.recipe["options"]["learning_rate"] == 3e-4
    far = run(folder, tmp_path / "d.safetensors", begin_from=begin, learning_rate=30.0, **keys)
    other = load(far.weights).net.state_dict()
    assert not all(np.array_equal(before[name], other[name]) for name in before)
    with pytest.raises(InputError, match="exists already"):
        run(folder, moved.weights, begin_from=str(moved.weights), **keys)


@pytest.mark.parametrize(
    ("name", "keys", "why"),
    [
        ("absent.safetensors", {}, "begin_from = absent.safetensors: no such file"),
        ("weights.pt", {}, "is neither fibsem nor a .safetensors"),
        ("a.safetensors", {"kind": "both"}, "is of one network, and kind both trains two"),
        ("fibsem", {"spec": TINY}, "is another architecture than that of fibsem"),
    ],
)
def test_weights_that_nothing_can_begin_from_are_refused(
    folder: Path, tmp_path: Path, name: str, keys: dict[str, Any], why: str
) -> None:
    given = {"spec": None, "patch": 32, **keys}
    with pytest.raises(InputError, match=why):
        run(folder, tmp_path / "w.safetensors", begin_from=name, **given)
