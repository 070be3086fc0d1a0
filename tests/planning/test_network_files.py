"""Files of networks: what a configuration names, and is used."""

from typing import Any

import pytest

from ddgm_dist.planning.config import parse_config
from ddgm_dist.planning.network_files import network_files

WARM = {"start": "restored"}


@pytest.mark.parametrize(
    ("keys", "files"),
    [
        ({}, {}),
        (WARM, {}),
        ({"denoiser": "a.pt"}, {"denoiser": "a.pt"}),
        ({"denoiser": "/x/a.torchscript"}, {"denoiser": "/x/a.torchscript"}),
        ({"denoiser": "mine:f", "restorer": "r.safetensors"}, {}),
        ({**WARM, "restorer": "r.safetensors"}, {"restorer": "r.safetensors"}),
        (
            {**WARM, "denoiser": "a.safetensors", "restorer": "r.safetensors"},
            {"denoiser": "a.safetensors", "restorer": "r.safetensors"},
        ),
    ],
)
def test_files_that_a_run_reads(keys: dict[str, Any], files: dict[str, str]) -> None:
    assert network_files(parse_config(keys)) == files
