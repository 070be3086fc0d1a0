"""Training patches: addressed, normalised, from every plane."""

import numpy as np
import pytest
import torch

from ddgm_dist.errors import InputError
from ddgm_dist.training.patches import PLANES, PatchSampler, drawable_planes


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


def only(**probabilities: float) -> PatchSampler:
    """A sampler of waves along x, 16 pixels long, whose augmentation is what is named here."""
    x = np.sin(2 * np.pi * np.arange(128) / 16).astype(np.float32)
    still = {"gain": 0.0, "offset": 0.0, "edges": 0.0, "vacuum": 0.0}
    return PatchSampler(
        [np.broadcast_to(x, (4, 128, 128))],
        size=64,
        planes=("yx",),
        **{**still, **probabilities},
    )


def test_a_zoomed_patch_has_its_waves_at_another_length_and_their_height() -> None:
    images, _ = only(zoom=1.0).sample(0, 64)
    rows = torch.fft.rfft(images).abs().mean(1)
    columns = torch.fft.rfft(images.mT).abs().mean(1)
    waves = torch.maximum(rows[:, 1:], columns[:, 1:]).argmax(1) + 1
    # 64 / 16 = 4 waves fit; between 4 / 1.6 and 4 * 1.6 do at other pixel sizes.
    assert {3, 4, 5, 6} <= set(waves.tolist()) <= {2, 3, 4, 5, 6, 7}
    assert float(images.std()) == pytest.approx(1, abs=0.05)
    assert images.shape == (64, 64, 64)


def test_a_toned_patch_keeps_the_order_of_its_values_but_not_their_spacing() -> None:
    plain, _ = only().sample(3, 32)
    toned, _ = only(tone=1.0).sample(3, 32)
    slopes = []
    for image in toned:
        values = image.flatten().unique()
        low, high = values[: len(values) // 2], values[len(values) // 2 :]
        slopes.append(float((high[-1] - high[0]) / (low[-1] - low[0])))
    assert 0.5 < min(slopes) < 0.9 < 1.1 < max(slopes) < 2
    assert not torch.equal(plain, toned)


def test_a_blurred_patch_keeps_its_mean_and_loses_contrast() -> None:
    images, _ = only(blur=1.0).sample(0, 64)
    heights = images.std(dim=(1, 2))
    assert float(heights.min()) < 0.9  # exp(-(2 pi 1.5 / 16)^2 / 2) = 0.84
    assert float(heights.min()) > 0.8
    assert float(heights.max()) > 0.98
    assert float(images.mean()) == pytest.approx(0, abs=0.02)


def test_a_zoomed_patch_never_reaches_beyond_its_volume() -> None:
    sampler = PatchSampler([volume((20, 17, 16))], size=16, zoom=1.0)
    images, _ = sampler.sample(0, 64)
    assert bool(torch.isfinite(images).all())


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
