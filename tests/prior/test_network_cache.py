"""Networks by name: each is built once, few are kept, and files that change are other networks."""

from pathlib import Path

import pytest
import torch

from ddgm_dist.prior import denoisers, restorers
from ddgm_dist.prior.network_cache import SHIPPED, NetworkCache
from ddgm_dist.prior.precision import Precision

CPU = torch.device("cpu")


def cache(built: list[str]) -> NetworkCache[list[str]]:
    """Networks that are lists of the text of their file; ``built`` collects what is built."""

    def build(path: Path, device: torch.device | str, precision: Precision) -> list[str]:
        built.append(path.read_text())
        return [path.read_text()]

    return NetworkCache("denoiser", lambda: Path("/shipped.safetensors"), build)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_network_is_built_once_per_content_and_arithmetic(tmp_path: Path) -> None:
    built: list[str] = []
    networks, path = cache(built), written(tmp_path / "w.safetensors", "a")
    first = networks.get(path, "cpu", "float32")
    assert networks.get(path, CPU, "float32") is first
    copy = written(tmp_path / "copy.safetensors", "a")
    assert networks.get(copy, CPU, "float32") is first
    path.with_suffix(".json").write_text("{}")  # another recipe is another network
    assert networks.get(path, CPU, "float32") is not first
    assert networks.get(written(path, "b"), CPU, "float32") == ["b"]
    assert built == ["a", "a", "b"]
    if networks.get(path, CPU, "bfloat16") is not networks.get(path, CPU, "float32"):
        assert built == ["a", "a", "b", "b"]  # this processor has bfloat16


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    built: list[str] = []
    networks = cache(built)
    a, b, c = (written(tmp_path / f"{n}.safetensors", n) for n in "abc")
    for path in (a, b, a, c):  # b is used least recently
        networks.get(path, CPU, "float32")
    assert list(networks.kept.values()) == [["a"], ["c"]]
    networks.get(a, CPU, "float32")
    assert built == ["a", "b", "c"]
    networks.get(b, CPU, "float32")
    assert built == ["a", "b", "c", "b"]


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_what_is_replaced_while_it_is_built_is_not_kept(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / "w.safetensors", "a")

    def build(at: Path, device: torch.device | str, precision: Precision) -> str:
        at.with_suffix(suffix).write_text("another")
        return "mixed"

    networks = NetworkCache("denoiser", lambda: path, build)
    assert networks.get(path, CPU, "float32") == "mixed"
    assert not networks.kept


def test_a_name_stands_for_files(tmp_path: Path) -> None:
    networks = cache([])
    assert networks.weights(SHIPPED) == Path("/shipped.safetensors")
    assert networks.weights("a/w.safetensors") == Path("a/w.safetensors")
    assert networks.weights("module:f") is networks.weights("w.pt") is None
    path = written(tmp_path / "w.safetensors", "a")
    assert networks.files(str(path)) == [("denoiser", path)]
    recipe = written(tmp_path / "w.json", "{}")
    assert networks.files(str(path)) == [("denoiser", path), ("denoiser", recipe)]
    assert networks.files(SHIPPED) == networks.files("module:f") == []


def test_denoisers_and_restorers_have_one_each() -> None:
    assert isinstance(denoisers._networks, NetworkCache)
    assert isinstance(restorers._networks, NetworkCache)
    assert denoisers._networks.kept is not restorers._networks.kept
    assert (denoisers._networks.argument, restorers._networks.argument) == ("denoiser", "restorer")
