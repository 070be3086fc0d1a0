"""A training of a few steps on a few small images."""

from pathlib import Path
from typing import Any

import numpy as np

from ddgm_dist.prior.unet import UNetSpec
from ddgm_dist.training.result import TrainingResult
from ddgm_dist.training.train import train

__all__ = ["TINY", "run", "tissue"]

TINY = UNetSpec(channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1)


def tissue(shape: tuple[int, int, int] = (20, 24, 28)) -> np.ndarray:
    return np.random.default_rng(0).integers(20, 220, shape, dtype=np.uint8)


def run(images: Path, weights: Path, **others: Any) -> TrainingResult:
    arguments = {"steps": 2, "patch": 16, "batch": 2, "spec": TINY, "progress": False, **others}
    return train([images], weights, **arguments)
