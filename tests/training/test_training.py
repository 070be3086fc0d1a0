"""Training: learns, and interrupted anywhere it ends where it would have ended."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddgm_dist.errors import InputError
from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.training.denoising import SIGMA_BANDS, DenoisingTask, _loss, validation_bands
from ddgm_dist.training.loop import TrainingHistory, TrainingOptions, run_training
from ddgm_dist.training.patches import PatchSampler

TINY = UNetSpec(channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1)
WIDER = UNetSpec(channels=(32, 64), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1)


def train_network(
    sampler: PatchSampler,
    options: TrainingOptions,
    *,
    spec: UNetSpec,
    validation: PatchSampler | None = None,
    **others: Any,
) -> tuple[UNet, TrainingHistory]:
    return run_training(DenoisingTask(sampler, validation, spec), options, **others)


class Interrupted(Exception):
    """Stands for Ctrl-C, or for a machine that goes away."""


@pytest.fixture(scope="module")
def sampler() -> PatchSampler:
    grid = np.arange(40) / 3
    waves = np.sin(grid)[:, None, None] + np.cos(grid)[:, None] * np.sin(2 * grid)
    return PatchSampler([(waves * 50 + 128).astype(np.uint8)], size=16)


def options(steps: int, **others: float) -> TrainingOptions:
    return TrainingOptions(steps=steps, batch=2, warmup=2, checkpoint_every=0, **others)


def same(a: UNet, b: UNet) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_few_steps(sampler: PatchSampler) -> None:
    seen: list[tuple[int, float]] = []
    before = torch.get_rng_state()
    net, history = train_network(
        sampler,
        options(3),
        validation=sampler,
        spec=TINY,
        on_step=lambda h, done: seen.append((h.step, done)),
    )
    assert [step for step, _ in seen] == [1, 2, 3]
    assert [done for _, done in seen] == pytest.approx([1 / 3, 2 / 3, 1])
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    (step, bands), *more = history.validation
    assert (step, more) == (3, [])
    assert len(bands) == len(SIGMA_BANDS)
    assert all(math.isfinite(loss) for loss in bands.values())
    assert history.seconds > 0
    assert torch.equal(before, torch.get_rng_state())  # the caller's generator is left alone


class Exact(torch.nn.Module):
    """The F for which the denoiser's D is the clean image, whatever the noise."""

    spec = TINY

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        s = sigma[:, None, None]
        scale = torch.rsqrt(1 + s * s)
        return (self.clean - x * scale) / (s * scale)


def test_the_loss_is_zero_for_the_network_whose_denoiser_is_perfect() -> None:
    clean, noise = torch.randn(2, 4, 16, 16)
    net, inside, sigma = Exact(clean), torch.ones_like(clean), torch.tensor([0.03, 0.3, 2.0, 20.0])
    inside[:, 10:] = 0
    denoised = UNetDenoiser(net, precision="float32")(clean + 2 * noise, 2.0, inside)
    torch.testing.assert_close(denoised, clean, rtol=1e-4, atol=1e-4)
    assert float(_loss(net, clean, inside, sigma, noise).max()) < 1e-6
    # What lies outside the specimen is not asked for.
    elsewhere = clean + (1 - inside)
    assert float(_loss(net, elsewhere, inside, sigma, noise).max()) < 1e-6


def test_it_learns_and_validation_is_fixed(sampler: PatchSampler) -> None:
    untrained, _ = train_network(sampler, options(1, learning_rate=1e-9), spec=TINY)
    net, history = train_network(sampler, options(60, learning_rate=3e-3), spec=TINY)
    before, after = (validation_bands(n, sampler)["0.3-1"] for n in (untrained, net))
    assert before == pytest.approx(1, abs=0.2)  # F has unit variance, and nothing is known of it
    assert after < 0.6
    assert validation_bands(net, sampler) == validation_bands(net, sampler)
    assert [step for step, _ in history.train] == [50]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_interrupted_and_resumed_is_uninterrupted(
    sampler: PatchSampler, tmp_path: Path, at: int
) -> None:
    checkpoint = tmp_path / "w.ckpt"

    def stop(history: TrainingHistory, done: float) -> None:
        if history.step == at:
            raise Interrupted

    whole, figures = train_network(sampler, options(5), spec=TINY, validation=sampler)
    with pytest.raises(Interrupted):
        train_network(sampler, options(5), spec=TINY, checkpoint=checkpoint, on_step=stop)
    assert checkpoint.exists() == (at > 1)
    resumed, history = train_network(
        sampler, options(5), spec=TINY, validation=sampler, checkpoint=checkpoint
    )
    assert same(whole, resumed)
    assert (history.step, history.validation) == (5, figures.validation)
    # Run once more there is nothing left to do, and it says the same.
    again, _ = train_network(sampler, options(5), spec=TINY, checkpoint=checkpoint)
    assert same(whole, again)
    assert [p.name for p in tmp_path.iterdir()] == ["w.ckpt"]


def test_a_resumed_curve_is_the_uninterrupted_one(sampler: PatchSampler, tmp_path: Path) -> None:
    checkpoint = tmp_path / "w.ckpt"

    def stop(history: TrainingHistory, done: float) -> None:
        if history.step == 31:  # 30 steps are saved
            raise Interrupted

    _, figures = train_network(sampler, options(52), spec=TINY)
    with pytest.raises(Interrupted):
        train_network(sampler, options(52), spec=TINY, checkpoint=checkpoint, on_step=stop)
    state = torch.load(checkpoint, weights_only=True)
    assert (state["history"]["step"], len(state["history"]["recent"])) == (30, 30)
    _, history = train_network(sampler, options(52), spec=TINY, checkpoint=checkpoint)
    assert history.train == figures.train
    assert (len(history.train), len(history.recent)) == (1, 2)
    # A checkpoint of a former version has no recent losses: the first mean is of fewer.
    del state["history"]["recent"]
    torch.save(state, checkpoint)
    _, history = train_network(sampler, options(52), spec=TINY, checkpoint=checkpoint)
    assert [step for step, _ in history.train] == [50]
    assert history.train != figures.train


def test_the_seed_decides(sampler: PatchSampler) -> None:
    first, again, other = (
        train_network(sampler, options(2, seed=s), spec=TINY)[0] for s in (0, 0, 1)
    )
    assert same(first, again)
    assert not same(first, other)


def test_a_budget_of_minutes_ends_and_adds_up(sampler: PatchSampler, tmp_path: Path) -> None:
    minutes = TrainingOptions(minutes=0.3 / 60, batch=2)
    _, history = train_network(sampler, minutes, spec=TINY, checkpoint=tmp_path / "c")
    assert history.step >= 1
    assert history.seconds >= 0.3
    _, later = train_network(sampler, minutes, spec=TINY, checkpoint=tmp_path / "c")
    assert later.step == history.step


@pytest.mark.parametrize("damage", ["cut", "text", "pickle", "keys", "optimizer", "list"])
def test_a_damaged_checkpoint_is_refused(
    sampler: PatchSampler, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "w.ckpt"
    train_network(sampler, options(1), spec=TINY, checkpoint=path)
    state = torch.load(path, weights_only=True)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "pickle":
        torch.save(Path("an object that code would have to be run for"), path)
    elif damage == "keys":
        torch.save({"spec": state["spec"]}, path)
    elif damage == "optimizer":
        torch.save({**state, "optimizer": {"state": {}, "param_groups": []}}, path)
    else:
        torch.save([state], path)
    with pytest.raises(InputError, match=r"is damaged.*delete it to start") as refused:
        train_network(sampler, options(2), spec=TINY, checkpoint=path)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_architecture_is_refused(
    sampler: PatchSampler, tmp_path: Path
) -> None:
    train_network(sampler, options(1), spec=TINY, checkpoint=tmp_path / "w.ckpt")
    with pytest.raises(InputError, match="another architecture"):
        train_network(sampler, options(2), spec=WIDER, checkpoint=tmp_path / "w.ckpt")


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({}, "steps"),
        ({"steps": 0}, "steps"),
        ({"minutes": 0.0}, "minutes"),
        ({"steps": 1, "minutes": math.nan}, "minutes"),
        ({"steps": 1, "batch": 0}, "batch"),
        ({"steps": 1, "learning_rate": -1.0}, "learning_rate"),
        ({"steps": 1, "sigma_range": (0.0, 1.0)}, "sigma_range"),
        ({"steps": 1, "sigma_range": (1.0, 1.0)}, "sigma_range"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object], argument: str) -> None:
    with pytest.raises(InputError) as refused:
        TrainingOptions(**wrong)
    assert refused.value.argument == argument
