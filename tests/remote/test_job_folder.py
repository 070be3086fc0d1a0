"""What a job's folder may hold; no cluster is asked."""

from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.remote.job_server import JobServer
from ddgm_dist.remote.submit import LARGEST, submit

WARM = {"start": "restored"}


class Nowhere(JobServer):
    """A cluster that is never reached."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("sizes", "keys", "named", "listed"),
    [
        ({"d.pt": 1.0}, {"denoiser": "d.pt"}, "denoiser = d.pt", "(the denoiser 95 MiB)"),
        ({"r.safetensors": 1.0}, {}, "restorer = r.safetensors", "(the restorer 95 MiB)"),
        (
            {"d.pt": 0.4, "r.safetensors": 0.7},
            {"denoiser": "d.pt"},
            "restorer = r.safetensors",
            "(the denoiser 38 MiB, the restorer 66.5 MiB)",
        ),
        (
            {"d.pt": 0.7, "r.safetensors": 0.4},
            {"denoiser": "d.pt"},
            "denoiser = d.pt",
            "(the denoiser 66.5 MiB, the restorer 38 MiB)",
        ),
    ],
)
def test_the_largest_network_of_a_folder_that_is_too_large_is_named(
    sizes: dict[str, float],
    keys: dict[str, Any],
    named: str,
    listed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, share in sizes.items():
        with Path(name).open("wb") as file:
            file.truncate(int(share * LARGEST))  # a hole
    if "r.safetensors" in sizes:
        keys = {**keys, **WARM, "restorer": "r.safetensors"}
    with pytest.raises(InputError) as refused:
        submit(Nowhere(), "/a.zarr", "/o.zarr", keys)
    said = str(refused.value)
    assert said.startswith(f"{named}: ")
    assert listed in said
    assert f"put the {named.split(maxsplit=1)[0]} where" in said
    assert "may hold 95 MiB" in said


def test_a_package_that_is_too_large_is_not_taken_for_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddgm_dist.remote.submit.LARGEST", 1000)
    with pytest.raises(InputError, match=r"^installed = False: .* of this package would be sent"):
        submit(Nowhere(), "/a.zarr", "/o.zarr", {"denoiser": str(tmp_path / "w.pt")})
