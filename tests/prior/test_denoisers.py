"""Denoisers: ours does what its formula says, a user's is checked."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ddgm_dist.errors import InputError
from ddgm_dist.prior.denoisers import FunctionDenoiser, UNetDenoiser, load_denoiser
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import save_weights

TINY = UNetSpec(channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1)
SIGMAS = (0.01, 0.3, 3.0, 30.0)


def images(count: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 16, 16, generator=torch.Generator().manual_seed(1))
    return x, torch.ones_like(x)


class Knowing(nn.Module):
    """Stands in for a network: what F would be if it knew the clean image."""

    spec = TINY

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean
        self.seen: list[float] = []

    def forward(self, x: Tensor, sigma: Tensor, inside: Tensor) -> Tensor:
        s = sigma[:, None, None]
        self.seen.append(float(x.std()))
        noise = (x * torch.sqrt(1 + s * s) - self.clean) / s
        return (self.clean * s - noise) / torch.sqrt(1 + s * s)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_network_that_predicts_nothing_shrinks(sigma: float) -> None:
    net = UNet(TINY)
    nn.init.zeros_(net.tail.bias)  # its weights start at zero
    x, inside = images()
    for precision in ("float32", "bfloat16"):
        denoised = UNetDenoiser(net, precision=precision)(x, sigma, inside)
        torch.testing.assert_close(denoised, x / (1 + sigma**2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_network_that_knows_the_image_returns_it(sigma: float) -> None:
    clean, inside = images(8)
    net = Knowing(clean)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    denoised = UNetDenoiser(net, precision="float32")(clean + sigma * noise, sigma, inside)
    torch.testing.assert_close(denoised, clean, rtol=1e-4, atol=1e-4)
    assert net.seen == [pytest.approx(1, abs=0.1)]  # unit variance at every noise level


def test_our_weights_by_path(tmp_path: Path) -> None:
    net, path = UNet(TINY), tmp_path / "w.safetensors"
    digest = save_weights(path, net, {"sigma_range": [0.02, 20.0]})
    loaded = load_denoiser(str(path), precision="float32")
    assert (loaded.digest, loaded.sigma_range, loaded.reach) == (digest, (0.02, 20.0), net.reach)
    assert loaded.denoiser.stride == 2
    x, inside = images()
    assert loaded.denoiser(x, 0.5, inside).dtype == torch.float32


def test_a_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def halve(x, sigma):\n    return x / (2 * sigma)\nhalve.stride = 4\nNUMBER = 3\n"
    (tmp_path / "users_denoiser.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = load_denoiser("users_denoiser:halve")
    x, inside = images()
    inside[:, 8:] = 0
    torch.testing.assert_close(loaded.denoiser(x, 0.5, inside), x * inside)
    assert (loaded.denoiser.stride, loaded.reach, loaded.sigma_range[0]) == (4, 0, 0.0)
    (tmp_path / "users_other.py").write_text(source.replace("2", "3"))
    assert load_denoiser("users_other:halve").digest != loaded.digest
    assert load_denoiser("users_denoiser:halve").digest == loaded.digest
    for name, why in [
        ("users_denoiser:missing", "cannot be imported"),
        ("users_absent:halve", "cannot be imported"),
        ("users_denoiser:NUMBER", "is not callable"),
    ]:
        with pytest.raises(InputError, match=why):
            load_denoiser(name)
    for module in ("users_denoiser", "users_other"):
        sys.modules.pop(module)


def test_a_torchscript_file(tmp_path: Path) -> None:
    class Shrink(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return x / (1 + sigma * sigma)

    path = tmp_path / "shrink.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Shrink(), (torch.ones(1, 8, 8), torch.ones(()))), path)
    loaded = load_denoiser(str(path))
    x, inside = images()
    torch.testing.assert_close(loaded.denoiser(x, 2.0, inside), x / 5)
    assert len(loaded.digest) == 64
    path.write_bytes(b"no such thing")
    with pytest.raises(InputError, match="is not a TorchScript file") as refused:
        load_denoiser(str(path))
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="no such file"):
        load_denoiser(str(tmp_path / "absent.pt"))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (
            lambda x, sigma: x[:, :-1],
            r"the shape it is given, \(2, 16, 16\); it gave \(2, 15, 16\)",
        ),
        (lambda x, sigma: x.numpy(), "it gave ndarray"),
        (lambda x, sigma: x / 0 * sigma, "NaN or infinity at sigma = 0.5"),
    ],
)
def test_what_a_function_returns_is_checked(function: object, why: str) -> None:
    x, inside = images()
    with pytest.raises(InputError, match=why):
        FunctionDenoiser(function, "mine:f")(x, 0.5, inside)


def test_a_function_may_compute_in_any_precision() -> None:
    x, inside = images()
    denoised = FunctionDenoiser(lambda x, sigma: x.double(), "mine:f")(x, 0.5, inside)
    assert denoised.dtype == torch.float32


@pytest.mark.parametrize("name", ["fibsemm", "weights.onnx", ""])
def test_an_unknown_name_says_what_is_known(name: str) -> None:
    with pytest.raises(InputError, match="neither 'fibsem'"):
        load_denoiser(name)


@pytest.mark.parametrize("kind", ["network", "function"])
def test_a_gradient_flows_where_it_is_asked_for_and_nowhere_else(kind: str) -> None:
    x, inside = images()
    if kind == "network":
        net = UNet(TINY)
        nn.init.normal_(net.tail.weight)  # it starts at zero: nothing would flow through the net
        denoise = UNetDenoiser(net, precision="float32")
    else:
        denoise = FunctionDenoiser(lambda x, sigma: x.tanh() / (1 + sigma), "tanh")
    assert not denoise(x, 0.5, inside).requires_grad
    asked = x.clone().requires_grad_()
    out = denoise(asked, 0.5, inside)
    (gradient,) = torch.autograd.grad(out.sum(), asked)
    assert float(gradient.std()) > 1e-3, "not that of a mere scaling"
    with torch.no_grad():
        assert not denoise(asked, 0.5, inside).requires_grad
