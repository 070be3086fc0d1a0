"""The restorer's network: local, and at first what it is given."""

import pytest
import torch

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.prior.restoring_unet import (
    RestoringUNet,
    RestoringUNetSpec,
    acquisition_features,
)

SMALL = RestoringUNetSpec(
    channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1, neighbours=1
)
ACQUISITION = Acquisition(tuple(float(a) for a in range(-60, 61, 2)), 16)


def network(*, trained: bool) -> RestoringUNet:
    torch.manual_seed(0)
    net = RestoringUNet(SMALL)
    if trained:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return net.eval()


def restored(net: RestoringUNet, images: torch.Tensor, noise: float = 1.0) -> torch.Tensor:
    features = acquisition_features(torch.full((len(images),), noise), ACQUISITION)
    with torch.no_grad():
        return net(images, features, torch.ones(len(images), *images.shape[2:]))


def again(net: RestoringUNet, images: torch.Tensor, estimates: torch.Tensor) -> torch.Tensor:
    features = acquisition_features(torch.ones(len(images)), ACQUISITION, again=True)
    with torch.no_grad():
        return net(images, features, torch.ones(len(images), *images.shape[2:]), estimates)


def test_at_first_it_returns_the_middle_row() -> None:
    images = torch.randn(2, 3, 16, 32)
    assert torch.equal(restored(network(trained=False), images), images[:, 1])


def test_pixels_beyond_the_reach_change_nothing() -> None:
    net, images = network(trained=True), torch.randn(1, 3, 16, 96)
    before, changed = restored(net, images), images.clone()
    at = 40
    changed[..., at] += 1
    different = (restored(net, changed) != before).any(dim=1)[0].nonzero()[:, 0]
    assert int((different - at).abs().max()) <= net.reach
    assert int((different - at).abs().max()) >= net.reach // 3  # it does see that far


def test_a_repeated_call_begins_with_the_data_step_and_sees_both_estimates() -> None:
    images, estimates = torch.randn(2, 3, 16, 32), torch.randn(2, 2, 16, 32)
    assert torch.equal(again(network(trained=False), images, estimates), estimates[:, 1])
    net = network(trained=True)
    first = again(net, images, estimates)
    for changed in (0, 1):
        other = estimates.clone()
        other[:, changed, :, :8] += 1
        # Far from the change, too: not only what the result begins with.
        assert not torch.equal(again(net, images, other)[..., 9:12], first[..., 9:12])


def test_the_share_of_the_tilts_matters_and_padding_is_empty() -> None:
    net, images = network(trained=True), torch.randn(1, 3, 16, 32)
    features = acquisition_features(torch.ones(1), ACQUISITION)
    coverage = torch.ones(1, 16, 32)
    with torch.no_grad():
        first = net(images, features, coverage)
        fewer = net(images, features, 0.5 * coverage)
        coverage[..., 20:] = 0
        padded = net(images, features, coverage)
        images[..., 20:] = 7
        other = net(images, features, coverage)
    assert not torch.equal(first, fewer)
    assert not torch.equal(first[..., :20], padded[..., :20])
    assert torch.equal(padded[..., :20], other[..., :20])


def test_neighbours_noise_and_geometry_matter() -> None:
    net, images = network(trained=True), torch.randn(1, 3, 16, 32)
    before, changed = restored(net, images), images.clone()
    changed[:, 2] += 1
    assert not torch.equal(restored(net, changed), before)
    assert not torch.equal(restored(net, images, noise=2.0), before)


@pytest.mark.parametrize(
    "other",
    [
        Acquisition(ACQUISITION.angles_deg[:-5], 16),
        Acquisition(ACQUISITION.angles_deg[::2], 16),
        Acquisition((*ACQUISITION.angles_deg[:20], *ACQUISITION.angles_deg[25:]), 16),
        Acquisition(ACQUISITION.angles_deg, 32),
    ],
)
def test_features_tell_geometries_apart(other: Acquisition) -> None:
    noise = torch.ones(1)
    ours, theirs = acquisition_features(noise, ACQUISITION), acquisition_features(noise, other)
    assert float((ours - theirs).abs().max()) > 1e-3
    assert bool(torch.isfinite(theirs).all())
    # The order of the tilts says nothing.
    turned = Acquisition(other.angles_deg[::-1], other.thickness)
    torch.testing.assert_close(acquisition_features(noise, turned), theirs)


def test_one_tilt_has_features() -> None:
    assert bool(torch.isfinite(acquisition_features(torch.ones(1), Acquisition((0.0,), 1))).all())


def test_extents_that_are_no_multiples_of_the_stride_are_refused() -> None:
    with pytest.raises(ValueError, match="not multiples of 2"):
        restored(network(trained=False), torch.randn(1, 3, 15, 32))
