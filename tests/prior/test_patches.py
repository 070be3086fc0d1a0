"""Training patches: addressed, normalised, from every plane."""

import numpy as np
import pytest
import torch

from ddgm_dist.errors import InputError
from ddgm_dist.prior.patches import PLANES, PatchSampler, drawable_planes


def volume(shape: tuple[int, int, int] = (24, 32, 40), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 220, shape, dtype=np.uint8)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, again = (PatchSampler([volume()], size=16, seed=3) for _ in range(2))
    first.sample(0, 4)  # a stream would have moved on
    for a, b in zip(first.sample(5, 4), again.sample(5, 4), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.sample(5, 4)[0], first.sample(6, 4)[0])
    other = PatchSampler([volume()], size=16, seed=4)
    assert not torch.equal(first.sample(5, 4)[0], other.sample(5, 4)[0])


@pytest.mark.parametrize("planes", [("yx", "zx", "zy"), ("yx",), ("zx", "zy")])
def test_every_plane_asked_for_is_drawn_and_no_other(planes: tuple[str, ...]) -> None:
    z, y, x = np.meshgrid(np.arange(24), np.arange(24), np.arange(24), indexing="ij")
    sampler = PatchSampler([(z + 10 * y + 1000 * x).astype(np.float32)], size=16, planes=planes)
    images, inside = sampler.sample(0, 48, augment=False)
    assert bool((inside == 1).all())
    down, right = images[:, 1, 0] - images[:, 0, 0], images[:, 0, 1] - images[:, 0, 0]
    ratio = {100: "yx", 1000: "zx", 10: "zy"}
    drawn = [ratio[round(float(r), -1)] for r in right / down]
    counts = {plane: drawn.count(plane) for plane in PLANES}
    assert all((n > 48 / len(planes) / 2) == (p in planes) for p, n in counts.items()), counts


def test_unit_variance_over_each_volume() -> None:
    mixed = [volume(), volume((30, 30, 30), 1).astype(np.float32) * 1e3 - 7]
    sampler = PatchSampler(mixed, size=16)
    for array, (mean, std) in zip(mixed, sampler.moments, strict=True):
        assert mean == pytest.approx(array.mean(dtype=np.float64), rel=1e-12)
        assert std == pytest.approx(array.std(dtype=np.float64), rel=1e-12)
    images, _ = sampler.sample(0, 64, augment=False)
    assert float(images.mean()) == pytest.approx(0, abs=0.02)
    assert float(images.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("augment", [False, True])
def test_eight_and_sixteen_bits_and_floats_give_the_same_patches(augment: bool) -> None:
    eight = volume()
    others = (eight.astype(np.uint16) * 257, eight.astype(">u2"), eight.astype(np.float32) / 255)
    expected, inside = PatchSampler([eight], size=16).sample(2, 16, augment=augment)
    for other in others:
        images, same = PatchSampler([other], size=16).sample(2, 16, augment=augment)
        torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(same, inside)


def test_augmentation_shows_edges_vacuum_and_every_orientation() -> None:
    ramp = np.zeros((16, 16, 16), dtype=np.float32)
    ramp += np.arange(16)[:, None] + 100 * np.arange(16)
    sampler = PatchSampler([ramp], size=16, planes=("yx",), gain=0, offset=0, edges=0, vacuum=0)
    images, _ = sampler.sample(0, 64)
    corners = {tuple(i[[0, 0, -1, -1], [0, -1, 0, -1]].argsort().tolist()) for i in images}
    assert len(corners) == 8
    images, inside = PatchSampler([volume()], size=16).sample(0, 256)
    assert bool(((inside == 0) | (inside == 1)).all())
    assert bool((images[inside == 0] == 0).all())
    partly = (inside == 0).flatten(1).any(dim=1)
    assert 0.2 < float(partly.float().mean()) < 0.7
    assert bool(inside.flatten(1).any(dim=1).all())  # some specimen is always there
    assert float(images.min()) < -2.2  # vacuum is darker than anything in the volume


def test_planes_in_which_a_volume_is_too_thin_are_left_out() -> None:
    assert drawable_planes((8, 32, 40), ("yx", "zx", "zy"), 16) == ("yx",)
    assert drawable_planes((16, 8, 40), ("yx", "zx", "zy"), 16) == ("zx",)
    images, _ = PatchSampler([volume((1, 32, 40))], size=32).sample(0, 2)
    assert images.shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("volumes", "planes", "why"),
    [
        ([], ("yx",), "no training images given"),
        ([volume(), volume((40, 8, 8))], ("yx", "zx"), "at least 16 pixels on each side"),
        ([volume()], ("xy",), "not one of yx, zx, zy"),
        ([volume()[0]], ("yx",), "has three axes"),
        ([np.full((4, 16, 16), 9, np.uint8)], ("yx",), "no contrast"),
        ([volume().astype(np.float32) * np.nan], ("yx",), "NaN or infinity"),
        ([np.full((4, 16, 16), np.inf, np.float32)], ("yx",), "NaN or infinity"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(
    volumes: list[np.ndarray], planes: tuple[str, ...], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        PatchSampler(volumes, size=16, planes=planes)
