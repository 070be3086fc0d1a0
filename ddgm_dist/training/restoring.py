"""The training of a restorer.

The loss is the squared error of the restored row, relative to that of the regularized inverse that the
network is given. So every geometry and every noise level counts alike. In some batches the network is
called repeatedly, and the last call is trained: it sees the errors of its own estimates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.prior.precision import has_bfloat16
from ddgm_dist.prior.restoring_unet import (
    RestoringUNet,
    RestoringUNetSpec,
    acquisition_features,
)
from ddgm_dist.training.acquisitions import TRAINED_FOR
from ddgm_dist.training.blocks import BlockSampler
from ddgm_dist.training.loop import TrainingOptions
from ddgm_dist.training.patches import PatchSampler
from ddgm_dist.training.tilt_inputs import MOST_CALLS, Inputs, TiltInputs

__all__ = ["RestoringTask"]

# Of the error of the inverse, so that nearly perfect ones do not dominate.
_LEAST = 0.02
# Least weight of a pixel of the specimen.
_UNSEEN = 0.2
# Noise, tilts, largest angle and thickness of the cases that are judged.
_CASES = (
    (0.05, 61, 60, 64),
    (0.3, 61, 60, 64),
    (1.0, 61, 60, 64),
    (0.3, 21, 60, 64),
    (0.05, 41, 45, 64),
    (0.05, 61, 60, 128),
    (1.0, 61, 70, 128),
)
_JUDGED = 4


@dataclass(frozen=True)
class RestoringTask:
    """Restoring rows from the regularized inverses of tilt series.

    Attributes
    ----------
    sampler
        Volumes and their changes.
    validation
        Volumes that are judged on; None for none.
    spec
        Architecture.
    columns
        Width of the images.
    """

    sampler: PatchSampler
    validation: PatchSampler | None = None
    spec: RestoringUNetSpec = field(default_factory=RestoringUNetSpec)
    columns: int = 224

    @property
    def trained_for(self) -> dict[str, tuple[float, float]]:
        """Ranges of the series that it draws; see `ddgm_dist.prior.trained_ranges.TrainedRanges`."""
        return {**TRAINED_FOR, "calls": (1, MOST_CALLS)}

    def network(self) -> RestoringUNet:
        """A network with its initial weights."""
        return RestoringUNet(self.spec)

    def loss(self, net: RestoringUNet, step: int, options: TrainingOptions) -> Tensor:
        """Loss of one step; see the module's docstring."""
        inputs = self._inputs(self.sampler, options.batch, options.seed).draw(step)
        return relative_error(net, inputs)

    def judge(self, net: RestoringUNet) -> dict[str, float] | None:
        """Squared error of fixed cases as a fraction of the tissue's variance, by case."""
        if self.validation is None:
            return None
        found = {}
        for number, (noise, tilts, most, thickness) in enumerate(_CASES):
            angles = tuple(float(a) for a in np.linspace(-most, most, tilts))
            once = replace(self._inputs(self.validation, 0, 0), run=1).simulate(
                np.random.default_rng([1, number]),
                Acquisition(angles, thickness),
                [noise] * _JUDGED,
                augment=False,
            )
            clean, weight = once.window(once.clean), _weight(once)
            mean = (clean * weight).sum() / weight.sum()
            variance = ((clean - mean).square() * weight).sum() / weight.sum()
            for calls in (1, 2):
                with torch.no_grad():
                    error = squared_errors(net, replace(once, calls=calls)).mean()
                name = f"{noise:g}, {tilts} within {most}, {thickness} thick, calls {calls}"
                found[name] = float(error.cpu() / variance)
        return found

    def _inputs(self, sampler: PatchSampler, batch: int, seed: int) -> TiltInputs:
        return TiltInputs(
            BlockSampler(sampler),
            self.spec.neighbours,
            self.spec.stride,
            self.columns,
            pixels=batch * 64 * self.columns,
            seed=seed,
        )


def squared_errors(net: RestoringUNet, inputs: Inputs) -> Tensor:
    """Weighted mean squared error of each restored row, after the inputs' number of calls."""
    window = inputs.window
    estimates = None
    for _ in range(inputs.calls - 1):
        # Of whole blocks, as the data step needs them; without gradients, as states of the loop.
        with torch.no_grad():
            restored = _restored(net, inputs, inputs.images, inputs.coverage, estimates)
        estimates = inputs.estimates(restored.cpu())
    restored = _restored(
        net,
        inputs,
        window(inputs.images),
        window(inputs.coverage),
        None if estimates is None else window(estimates),
    )
    clean, weight = (t.to(restored.device) for t in (window(inputs.clean), _weight(inputs)))
    return _mean_square(restored - clean, weight)


def relative_error(net: RestoringUNet, inputs: Inputs) -> Tensor:
    """Error of the restored rows relative to that of the inverses, averaged over a batch."""
    inverse = inputs.window(inputs.images[:, net.neighbours])
    before = _mean_square(inverse - inputs.window(inputs.clean), _weight(inputs))
    errors = squared_errors(net, inputs)
    return (errors / before.to(errors.device).clamp(min=_LEAST)).mean()


def _restored(
    net: RestoringUNet,
    inputs: Inputs,
    images: Tensor,
    coverage: Tensor,
    estimates: Tensor | None,
) -> Tensor:
    device = net.head.weight.device
    again = estimates is not None
    features = acquisition_features(inputs.noise, inputs.acquisition, device, again=again)
    given = None if estimates is None else estimates.to(device)
    fast = has_bfloat16(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
        restored: Tensor = net(images.to(device), features, coverage.to(device), given)
    return restored.float()


def _weight(inputs: Inputs) -> Tensor:
    """Weights of the window's pixels: what few tilts see counts less."""
    coverage = inputs.window(inputs.coverage)
    return coverage.clamp(min=_UNSEEN) * (coverage > 0)


def _mean_square(difference: Tensor, weight: Tensor) -> Tensor:
    return (difference.square() * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1e-6)
