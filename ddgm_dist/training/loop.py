"""The training of a network: resumable and reproducible, with one code for CPU and GPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.paths.atomic import replace_file
from ddgm_dist.prior.unet import LocalUNet

__all__ = ["Task", "TrainingHistory", "TrainingOptions", "run_training"]

Network = TypeVar("Network", bound=LocalUNet)


class Task(Protocol[Network]):
    """A network, its loss by step, and how it is judged."""

    def network(self) -> Network:
        """A network with its initial weights, which torch's random state decides."""

    def loss(self, net: Network, step: int, options: TrainingOptions) -> Tensor:
        """Loss of one step's batch, a scalar; the same step always has the same batch."""

    def judge(self, net: Network) -> dict[str, float] | None:
        """Figures of a network on fixed inputs that it is not trained on; None without any."""


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training, which ends at ``steps`` or after ``minutes`` of training time.

    Attributes
    ----------
    steps, minutes
        Budget; at least one must be given. The one that is nearer its end counts. Minutes add up over
        resumed runs.
    batch
        Patches per step.
    learning_rate, warmup
        Peak rate of AdamW, and the steps it takes to get there.
    anneal
        Share of the budget at its end over which the rate falls, along a half cosine. Before it the
        rate is constant, so that a training may be continued from there with a larger budget.
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
    anneal: float = 1.0
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
        if not 0 < self.anneal <= 1:
            raise InputError("anneal", self.anneal, "must be above 0, at most 1")
        low, high = self.sigma_range
        if not 0 < low < high:
            raise InputError("sigma_range", self.sigma_range, "must satisfy 0 < low < high")


@dataclass
class TrainingHistory:
    """Figures of a training run; saved in the recipe and drawn as the training curve.

    Attributes
    ----------
    step, seconds
        Steps that are done, and the time that they took.
    train, validation
        Mean loss of 50 steps, and figures of validation, each with its step.
    recent
        Losses of the steps since the last of ``train``; a checkpoint keeps them, a recipe does not.
    """

    step: int = 0
    seconds: float = 0.0
    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)


def run_training(
    task: Task[Network],
    options: TrainingOptions,
    *,
    begin: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    on_step: Callable[[TrainingHistory, float], None] | None = None,
) -> tuple[Network, TrainingHistory]:
    """Train a network; returns the average of its weights and the figures.

    Parameters
    ----------
    task
        What it is trained to do.
    options
        Budget, rates and seed.
    begin
        Weights to begin from, as a network's state; random ones when None.
    checkpoint
        File to resume from if it exists, and to save to. An interrupted training resumes from the
        last save.
    device
        Device of the network.
    on_step
        Called after every step with the figures so far and the fraction of the budget used.

    Raises
    ------
    InputError
        If the checkpoint is of another architecture or damaged.
    """
    net = _initial_network(task, options.seed, device)
    average = _initial_network(task, options.seed, device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=1e-4)
    if begin is not None:
        net.load_state_dict(begin)
        average.load_state_dict(begin)
    history = TrainingHistory()
    if checkpoint is not None and checkpoint.exists():
        history = _load(checkpoint, net, average, optimizer)
    saved = time.monotonic()
    while (progress := _progress(history, options)) < 1:
        started = time.monotonic()
        rate = _learning_rate(history.step, progress, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = task.loss(net, history.step, options)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        history.recent.append(float(loss.detach()))
        decay = min(options.ema, (1 + history.step) / (10 + history.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        history.step += 1
        if history.step % 50 == 0:
            history.train.append((history.step, sum(history.recent) / len(history.recent)))
            history.recent = []
        history.seconds += time.monotonic() - started
        done = _progress(history, options)
        if history.step % options.validate_every == 0 or done >= 1:
            figures = task.judge(average)
            if figures is not None:
                history.validation.append((history.step, figures))
        if on_step is not None:
            on_step(history, min(done, 1.0))
        if checkpoint is not None and time.monotonic() - saved > options.checkpoint_every:
            _save(checkpoint, net, average, optimizer, history)
            saved = time.monotonic()
    if checkpoint is not None:
        _save(checkpoint, net, average, optimizer, history)
    return average, history


def _initial_network(task: Task[Network], seed: int, device: str) -> Network:
    with torch.random.fork_rng(devices=()):  # keeps the caller's random state
        torch.manual_seed(seed)
        net = task.network()
    laid_out: Network = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def _progress(history: TrainingHistory, options: TrainingOptions) -> float:
    by_steps = history.step / options.steps if options.steps else 0.0
    by_time = history.seconds / (60 * options.minutes) if options.minutes else 0.0
    return max(by_steps, by_time)


def _learning_rate(step: int, progress: float, options: TrainingOptions) -> float:
    fallen = max(0.0, 1 - (1 - min(progress, 1.0)) / options.anneal)
    cosine = 0.5 * (1 + math.cos(math.pi * fallen))
    return options.learning_rate * max(cosine, 0.005) * min(1.0, (step + 1) / options.warmup)


def _save(
    path: Path,
    net: LocalUNet,
    average: LocalUNet,
    optimizer: torch.optim.Optimizer,
    history: TrainingHistory,
) -> None:
    state = {
        "spec": asdict(net.spec),
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": asdict(history),
    }
    replace_file(path, lambda file: torch.save(state, file))


def _load(
    path: Path, net: LocalUNet, average: LocalUNet, optimizer: torch.optim.Optimizer
) -> TrainingHistory:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(state["spec"])
    except Exception as error:  # torch raises many types for damaged files
        raise _damaged(path) from error
    spec = asdict(net.spec)
    if found != spec:
        raise InputError(
            "checkpoint",
            str(path),
            f"is of another architecture: {found}, not {spec}",
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
