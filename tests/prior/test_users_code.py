"""What a user's code raises is told as the user's error, in one line, with its place."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ddgm_dist.errors import InputError
from ddgm_dist.prior.denoisers import FunctionDenoiser, load_denoiser

X = torch.ones(2, 16, 16)
SOURCE = """
import sys
import numpy as np


def deep(x, sigma):
    return inner(x)


def inner(x):
    raise ValueError("first line\\nlast line")


def reads(x, sigma):
    return open("/no/such/weights")


def exits(x, sigma):
    sys.exit("no licence")


def library(x, sigma):
    return np.reshape(np.zeros(3), 4)


def three(x, sigma, mask):
    return x
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of a user's, and tells its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(source: str) -> str:
        made.append(f"users_code_{len(made)}")
        (tmp_path / f"{made[-1]}.py").write_text(source)
        return made[-1]

    yield write
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            "deep",
            r"raised at sigma = 0\.5: ValueError: first line last line \(.*_0\.py:11 in inner\)",
        ),
        ("reads", r"FileNotFoundError: .*/no/such/weights'? \(.*_0\.py:15 in reads\)"),
        ("exits", r"SystemExit: no licence \(.*_0\.py:19 in exits\)"),
        ("library", r"ValueError: cannot reshape .* \(.*_0\.py:23 in library\)"),
        ("three", r"TypeError: three\(\) missing 1 .*'mask'; it is called as f\(x, sigma\)"),
    ],
)
def test_an_error_of_a_function_is_told_with_its_place(
    module: Callable[[str], str], function: str, words: str
) -> None:
    denoiser = load_denoiser(f"{module(SOURCE)}:{function}").denoiser
    with pytest.raises(InputError, match=words) as told:
        denoiser(X, 0.5, X)
    assert told.value.__cause__ is not None
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("device-side assert"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_memory_and_device_keep_their_kind(error: BaseException) -> None:
    """What they mean is for the engine to say: it gives calls less to do, or ends."""

    def fails(x: Tensor, sigma: float) -> Tensor:
        raise error

    with pytest.raises(type(error)) as told:
        FunctionDenoiser(fails, "mine:f")(X, 0.5, X)
    assert told.value is error


def test_memory_that_lacks_is_lacking_memory_whatever_torch_calls_it() -> None:
    def fails(x: Tensor, sigma: float) -> Tensor:
        return torch.empty(2**50)

    with pytest.raises(MemoryError, match="can't allocate memory"):
        FunctionDenoiser(fails, "mine:f")(X, 0.5, X)


def test_an_error_of_torchscript_is_told_by_its_last_line_and_place(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(Wrong()), tmp_path / "wrong.pt")
    denoiser = load_denoiser(str(tmp_path / "wrong.pt")).denoiser
    words = (
        r"raised at sigma = 0\.5: RuntimeError: The size of tensor a .*test_users_code\.py:\d+ in"
    )
    with pytest.raises(InputError, match=words) as told:
        denoiser(X, 0.5, X)
    assert len(str(told.value)) < 400


class Wrong(nn.Module):
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.deeper(x) * sigma

    def deeper(self, x: Tensor) -> Tensor:
        return x + torch.ones(3, 5)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import no_such_package\n",
            r"raised when imported: ModuleNotFoundError: .*_0\.py:1 in <mod",
        ),
        (
            "def f(x sigma): pass\n",
            r"raised when imported: SyntaxError: invalid syntax \(.*_0\.py:1\)",
        ),
        (
            "\nraise RuntimeError('a\\nb')\n",
            r"imported: RuntimeError: a b \(.*_0\.py:2 in <module>\)",
        ),
        ("import sys\nsys.exit(3)\n", r"imported: SystemExit: 3 \(.*_0\.py:2 in <module>\)"),
        ("f = lambda x, s: x\nf.stride = (1, 1)\n", r"attribute stride is \(1, 1\), not a whole"),
        ("f = lambda x, s: x\nf.stride = 0\n", r"attribute stride is 0, not a whole"),
    ],
)
def test_an_error_of_a_module_is_told_with_its_place(
    module: Callable[[str], str], source: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load_denoiser(f"{module(source)}:f")


@pytest.mark.parametrize("name", [":f", "module:", ".module:f", "folder/mine.py:f", "mine.py:f"])
def test_what_names_no_module_is_told_how_to(name: str) -> None:
    with pytest.raises(
        InputError, match=re.escape("write module:callable without folders and .py")
    ):
        load_denoiser(name)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x, sigma: x + 0j, "real floating-point numbers; it gave torch.complex64"),
        (lambda x, sigma: x.int(), "it gave torch.int32"),
        (lambda x, sigma: x.to_sparse(), "it gave torch.float32, torch.sparse_coo"),
        (lambda x, sigma: x.double() * 1e300, "gave NaN or infinity"),
    ],
)
def test_what_would_be_cut_off_is_refused(
    function: Callable[[Tensor, float], Tensor], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        FunctionDenoiser(function, "mine:f")(X, 0.5, X)
