"""What a network computes in."""

import platform
from pathlib import Path

import pytest
import torch

from ddgm_dist.prior import precision
from ddgm_dist.prior.denoisers import UNetDenoiser, load_denoiser
from ddgm_dist.prior.precision import arithmetic, has_bfloat16
from ddgm_dist.prior.unet import UNet, UNetSpec

TINY = UNetSpec(channels=(8, 16), encoder_blocks=(1,), decoder_blocks=(1,), embedding=16)


@pytest.mark.parametrize(("there", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_float32_where_the_processor_lacks_it(
    monkeypatch: pytest.MonkeyPatch, there: bool, dtype: torch.dtype
) -> None:
    """Also in the planner's memory: it holds what is computed."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: there)
    assert arithmetic("bfloat16", "cpu") is dtype
    assert arithmetic("float32", "cpu") is torch.float32
    net = UNetDenoiser(UNet(TINY), precision="bfloat16").net
    assert {p.dtype for p in net.parameters()} == {dtype}
    loaded, whole = load_denoiser("fibsem"), load_denoiser("fibsem", precision="float32")
    assert (loaded.activation < whole.activation) is there


def test_this_processor_is_looked_at() -> None:
    assert has_bfloat16("cuda")
    flags = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not flags.exists():
        pytest.skip("the kernel tells flags of x86 processors only")
    assert has_bfloat16("cpu") is (
        {"avx512bw", "avx512vl", "avx512dq"} <= set(flags.read_text().split())
    )
