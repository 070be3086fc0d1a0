"""The network is local, moves with its stride, and bears every noise level."""

import math

import pytest
import torch

from ddgm_dist.prior.unet import UNet, UNetSpec, noise_features

TINY = UNetSpec(channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1)
THREE = UNetSpec(
    channels=(32, 32, 32), encoder_blocks=(1, 2), decoder_blocks=(2, 1), middle_blocks=1
)


def awake(spec: UNetSpec, seed: int = 0) -> UNet:
    """A network whose layers that start at zero do something."""
    torch.manual_seed(seed)
    net = UNet(spec)
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return net.requires_grad_(False)


def run(net: UNet, image: torch.Tensor, sigma: float = 0.5) -> torch.Tensor:
    with torch.no_grad():
        return net(image, torch.full((len(image),), sigma), torch.ones_like(image))


def receptive_field(spec: UNetSpec, row: int, column: int, size: int) -> tuple[int, int]:
    """How far to the left and right an output pixel looks, when nothing cancels or is cut off."""
    net = UNet(spec).requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(torch.full_like(parameter, 1 / parameter[0].numel()))
    image = torch.ones(1, size, size, requires_grad=True)
    out = net(image, torch.ones(1), torch.ones(1, size, size))
    out[0, row, column].backward()
    columns = image.grad[0].abs().sum(dim=0).nonzero()[:, 0]
    return column - int(columns.min()), int(columns.max()) - column


@pytest.mark.parametrize(("spec", "size"), [(TINY, 64), (THREE, 128), (UNetSpec(), 192)])
def test_the_receptive_field_is_what_reach_says(spec: UNetSpec, size: int) -> None:
    reach, centre = UNet(spec).reach, size // 2
    seen = [max(receptive_field(spec, centre, centre + i, size)) for i in (0, 1, spec.stride - 1)]
    assert reach - spec.stride < max(seen) <= reach


def test_a_pixel_changes_nothing_beyond_reach() -> None:
    net, size, at = awake(THREE), 128, 61
    image = torch.randn(1, size, size)
    other = image.clone()
    other[0, at, at] += 10
    changed = (run(net, image) != run(net, other))[0].nonzero()
    assert len(changed) > net.reach  # it is seen at all
    assert int((changed - at).abs().max()) <= net.reach


def test_it_moves_with_the_image_by_its_stride() -> None:
    net = awake(THREE)
    reach, stride = net.reach, net.spec.stride
    wide = torch.randn(1, 32, 2 * reach + 64)
    whole = run(net, wide)
    moved = run(net, wide[:, :, stride:])
    inner = slice(reach, -reach)
    torch.testing.assert_close(moved[:, :, inner], whole[:, :, stride:][:, :, inner])
    assert not torch.allclose(
        run(net, wide[:, :, 1:-3])[:, :, inner], whole[:, :, 1:-3][:, :, inner]
    )


def test_what_lies_outside_the_specimen_is_not_seen() -> None:
    net = awake(TINY)
    image, inside = torch.randn(1, 16, 32), torch.ones(1, 16, 32)
    inside[:, 12:] = 0
    other = image.clone()
    other[:, 12:] = 7
    level = torch.ones(1)
    assert torch.equal(net(image, level, inside), net(other, level, inside))
    assert not torch.equal(net(image, level, inside), net(image, level, torch.ones_like(inside)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_noise_level_gives_finite_and_different_answers(dtype: torch.dtype) -> None:
    net = awake(TINY).to(dtype)
    sigma = torch.logspace(math.log10(0.01), math.log10(30), 40)
    features = noise_features(sigma, torch.float32)
    assert bool(torch.isfinite(features).all())
    # Neighbouring levels are told apart, and none is taken for another one far away.
    distance = torch.cdist(features, features) + 10 * torch.eye(40)
    assert float(distance.min()) > 0.05
    image = torch.randn(1, 16, 16).expand(40, 16, 16)
    out = net(image, sigma, torch.ones_like(image))
    assert out.dtype == dtype
    assert bool(torch.isfinite(out).all())
    assert float((out[0] - out[-1]).abs().max()) > 0


def test_small_noise_survives_bfloat16() -> None:
    # A filter that takes differences cancels the large brightness and leaves the noise, which
    # one bfloat16 (8 bits: steps of 0.016 at 3) would have rounded away.
    net = UNet(TINY).requires_grad_(False)
    net.head.weight.zero_()
    net.head.bias.zero_()
    net.head.weight[:, 0, 1, 1], net.head.weight[:, 0, 1, 2] = 1, -1
    image = 3 + 0.01 * torch.randn(2, 16, 16)
    inside = torch.ones_like(image)
    expected = net._read(image, inside)[:, :, :, :-1]
    got = net.to(torch.bfloat16)._read(image, inside).float()[:, :, :, :-1]
    error = (got - expected).abs()
    # Two terms of at most 3.1 known to 16 bits, and the answer itself rounded to 8.
    assert bool((error <= 2 * 4 * 2**-17 + expected.abs() * 2**-8).all())
    rounded = image.bfloat16().float()
    lost = ((rounded[:, :, :-1] - rounded[:, :, 1:]) - expected[:, 0]).abs()
    assert float(lost.square().mean()) > 100 * float(error.square().mean())


def test_extents_must_be_multiples_of_the_stride() -> None:
    with pytest.raises(ValueError, match="not multiples of 4"):
        run(UNet(THREE), torch.zeros(1, 16, 18))
    with pytest.raises(ValueError, match="not multiples of 4"):
        run(UNet(THREE), torch.zeros(1, 14, 16))


def test_a_specification_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="each of the 1 levels"):
        UNetSpec(channels=(32, 32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_the_answer_is_the_same(dtype: torch.dtype) -> None:
    """Then more is done in place."""
    net = awake(TINY).to(dtype)
    image, inside = torch.randn(2, 16, 24), torch.ones(2, 16, 24)
    level = torch.tensor([0.3, 3.0])
    with torch.no_grad():
        expected = net(image, level, inside)
    assert torch.equal(net(image, level, inside), expected)
