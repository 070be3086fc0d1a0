"""Training of the denoiser: resumable and reproducible, with one code for CPU and GPU.

The loss is the mean squared error of the network's output F (see :mod:`ddgm_dist.prior.unet`). It
weighs every noise level alike (Karras et al. 2022, table 1, "effective training target").
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.paths.atomic import replace_file
from ddgm_dist.prior.precision import has_bfloat16
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.training.patches import PatchSampler

__all__ = ["TrainingHistory", "TrainingOptions", "train_network", "validation_bands"]

SIGMA_BANDS = (
    (0.01, 0.03),
    (0.03, 0.1),
    (0.1, 0.3),
    (0.3, 1.0),
    (1.0, 3.0),
    (3.0, 10.0),
    (10.0, 30.0),
)


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training, which ends at ``steps`` or after ``minutes`` of training time.

    Attributes
    ----------
    steps, minutes
        Budget; at least one must be given. The learning rate falls along a half cosine over the one
        that is nearer its end. Minutes add up over resumed runs.
    batch
        Patches per step.
    learning_rate, warmup
        Peak rate of AdamW, and the steps it takes to get there.
    ema
        Decay of the exponential moving average of the weights, which is the result.
    sigma_range
        Least and largest noise level.
    seed
        Seed of initial weights, noise levels and noise.
    validate_every, checkpoint_every
        Steps between validations; seconds between checkpoints.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 8
    learning_rate: float = 1e-3
    warmup: int = 300
    ema: float = 0.999
    sigma_range: tuple[float, float] = (0.01, 30.0)
    seed: int = 0
    validate_every: int = 500
    checkpoint_every: float = 120.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InputError("steps", None, "neither steps nor minutes is given", "give a budget")
        for name in ("steps", "minutes", "batch", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(name, value, "must be positive and finite")
        low, high = self.sigma_range
        if not 0 < low < high:
            raise InputError("sigma_range", self.sigma_range, "must satisfy 0 < low < high")


@dataclass
class TrainingHistory:
    """Figures of a training run; saved in the recipe and drawn as the training curve."""

    step: int = 0
    seconds: float = 0.0
    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, dict[str, float]]] = field(default_factory=list)


def train_network(
    sampler: PatchSampler,
    options: TrainingOptions,
    *,
    validation: PatchSampler | None = None,
    spec: UNetSpec | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    on_step: Callable[[TrainingHistory, float], None] | None = None,
) -> tuple[UNet, TrainingHistory]:
    """Train a denoiser; returns the averaged network and the figures.

    Parameters
    ----------
    sampler, validation
        Sources of patches. Validation uses fixed patches and fixed noise.
    options
        Budget, rates and seed.
    spec
        Architecture; the default one when None.
    checkpoint
        File to resume from if it exists, and to save to. An interrupted training resumes from the
        last save.
    on_step
        Called after every step with the figures so far and the fraction of the budget used.

    Raises
    ------
    InputError
        If the checkpoint is of another architecture or damaged.
    """
    spec = spec or UNetSpec()
    net = _initial_network(spec, options.seed, device)
    average = _initial_network(spec, options.seed, device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=1e-4)
    history = TrainingHistory()
    if checkpoint is not None and checkpoint.exists():
        history = _load(checkpoint, spec, net, average, optimizer)
    saved, recent = time.monotonic(), []
    while (progress := _progress(history, options)) < 1:
        started = time.monotonic()
        rate = _learning_rate(history.step, progress, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        recent.append(_train_step(net, optimizer, sampler, history.step, options, device))
        decay = min(options.ema, (1 + history.step) / (10 + history.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        history.step += 1
        if history.step % 50 == 0:
            history.train.append((history.step, sum(recent) / len(recent)))
            recent = []
        history.seconds += time.monotonic() - started
        done = _progress(history, options)
        if validation is not None and (history.step % options.validate_every == 0 or done >= 1):
            history.validation.append((history.step, validation_bands(average, validation)))
        if on_step is not None:
            on_step(history, min(done, 1.0))
        if checkpoint is not None and time.monotonic() - saved > options.checkpoint_every:
            _save(checkpoint, spec, net, average, optimizer, history)
            saved = time.monotonic()
    if checkpoint is not None:
        _save(checkpoint, spec, net, average, optimizer, history)
    return average, history


def _initial_network(spec: UNetSpec, seed: int, device: str) -> UNet:
    with torch.random.fork_rng(devices=()):  # keeps the caller's random state
        torch.manual_seed(seed)
        net = UNet(spec)
    laid_out: UNet = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def _progress(history: TrainingHistory, options: TrainingOptions) -> float:
    by_steps = history.step / options.steps if options.steps else 0.0
    by_time = history.seconds / (60 * options.minutes) if options.minutes else 0.0
    return max(by_steps, by_time)


def _learning_rate(step: int, progress: float, options: TrainingOptions) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return options.learning_rate * max(cosine, 0.005) * min(1.0, (step + 1) / options.warmup)


def _draw_sigma(generator: torch.Generator, count: int, bounds: tuple[float, float]) -> Tensor:
    """Noise levels of a batch: one fifth log-uniform, the rest log-normal where DDGM works.

    They are stratified, so that every batch spans the range.
    """
    low, high = math.log(bounds[0]), math.log(bounds[1])
    u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    centre = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)) * 1.3 - 0.7
    spread = low + (high - low) * torch.rand(count, generator=generator)
    chosen = torch.where(torch.rand(count, generator=generator) < 0.2, spread, centre)
    return chosen.clamp(low, high).exp()


def _train_step(
    net: UNet,
    optimizer: torch.optim.Optimizer,
    sampler: PatchSampler,
    step: int,
    options: TrainingOptions,
    device: str,
) -> float:
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
    image, inside = (t.to(device) for t in sampler.sample(step, options.batch))
    sigma = _draw_sigma(generator, options.batch, options.sigma_range).to(device)
    noise = torch.randn(image.shape, generator=generator).to(device)
    loss = _loss(net, image, inside, sigma, noise).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _loss(net: UNet, image: Tensor, inside: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of F per image, over the inside of the specimen."""
    s = sigma[:, None, None]
    scale = torch.rsqrt(1 + s * s)
    noisy = (image + s * noise) * scale
    fast = has_bfloat16(image.device)
    with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=fast):
        predicted = net(noisy, sigma, inside)
    # D = x / (1 + s^2) + s / sqrt(1 + s^2) F solved for the F that makes D the clean image.
    target = (image * s - noise) * scale
    error = (predicted.float() - target).square() * inside
    per_image: Tensor = error.sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
    return per_image


@torch.no_grad()
def validation_bands(net: UNet, sampler: PatchSampler, count: int = 24) -> dict[str, float]:
    """Loss of F per band of noise levels, over fixed patches and noise."""
    device = next(net.parameters()).device
    image, inside = (t.to(device) for t in sampler.sample(0, count, augment=False))
    result = {}
    for index, (low, high) in enumerate(SIGMA_BANDS):
        generator = torch.Generator().manual_seed(index)
        u = (torch.arange(count) + 0.5) / count
        sigma = (low * (high / low) ** u).to(device)
        noise = torch.randn(image.shape, generator=generator).to(device)
        losses = torch.cat(
            [
                _loss(net, image[i : i + 8], inside[i : i + 8], sigma[i : i + 8], noise[i : i + 8])
                for i in range(0, count, 8)
            ]
        )
        result[f"{low:g}-{high:g}"] = float(losses.mean())
    return result


def _save(
    path: Path,
    spec: UNetSpec,
    net: UNet,
    average: UNet,
    optimizer: torch.optim.Optimizer,
    history: TrainingHistory,
) -> None:
    state = {
        "spec": asdict(spec),
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": asdict(history),
    }
    replace_file(path, lambda file: torch.save(state, file))


def _load(
    path: Path, spec: UNetSpec, net: UNet, average: UNet, optimizer: torch.optim.Optimizer
) -> TrainingHistory:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(state["spec"])
    except Exception as error:  # torch raises many types for damaged files
        raise _damaged(path) from error
    if found != asdict(spec):
        raise InputError(
            "checkpoint",
            str(path),
            f"is of another architecture: {found}, not {asdict(spec)}",
            "delete it to start afresh, or train with its architecture",
        )
    try:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return TrainingHistory(**state["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    # Torch's own message is left out: it advises to load the file in a way that runs its code.
    return InputError(
        "checkpoint",
        str(path),
        "is damaged, or is not a checkpoint of a training",
        "delete it to start afresh",
    )
