"""A denoiser that takes its time, so that faults have some to strike in."""

import os
import time

import torch
import torch.nn.functional as F

KERNEL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def smooth(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The posterior mean of white noise, blurred where there is much noise."""
    time.sleep(float(os.environ.get("CHAOS_DELAY", "0")))
    share = sigma * sigma / (1 + sigma * sigma)
    blurred = F.conv2d(F.pad(x[:, None], (2, 2, 0, 0)), KERNEL.view(1, 1, 1, 5))
    blurred = F.conv2d(F.pad(blurred, (0, 0, 2, 2)), KERNEL.view(1, 1, 5, 1))[:, 0]
    return (1 - share) * x + share * blurred / (1 + sigma)
