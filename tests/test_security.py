"""What comes from others is data: nothing in it runs, and no name in it leads out of its store."""

import ast
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import ddgm_dist as dd
from ddgm_dist.cli import main
from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.evaluation.pyramid import build_pyramid
from ddgm_dist.inspection.verify import verify
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.tilts.series import open_tilt_series

PACKAGE = Path(dd.__file__).parent

# -- the code ---------------------------------------------------------------------------------------

# Modules that run, or unpack to anywhere, what they are given.
MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__",
    "os.system", "os.popen", "shutil.unpack_archive",
    "yaml.unsafe_load", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load_all",
    "numpy.loadtxt", "np.loadtxt",
}  # fmt: skip
METHODS = {"extract", "extractall"}
# Between a process and those that it has started itself, by a socket that no other process can open.
OWN = {("core/processes.py", "pickle")}
# Where a program that the user names is run on purpose.
PROGRAMS = {
    ("prior/denoisers.py", "torch.jit.load"),
    ("prior/users_function.py", "importlib.import_module"),
}


def unsafe(source: str, name: str) -> list[str]:
    """What a module does that it must not, by line."""
    tree = ast.parse(source)
    safe = {"yaml.SafeLoader", "yaml.CSafeLoader", "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)"}
    loaders = set(safe)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} <= safe:
            loaders |= {node.name} if node.bases else set()
        if isinstance(node, ast.FunctionDef):  # one that gives a loader, and no other
            given = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
            if given and {ast.unparse(value) for value in given} <= safe:
                loaders.add(f"{node.name}()")
    found = []
    for node in ast.walk(tree):
        found += [f"{name}:{node.lineno}: {w}" for w in _wrong(node, loaders, name)]  # type: ignore[attr-defined]
    return [wrong for wrong in found if (name, wrong.rpartition(": ")[2]) not in OWN]


def _wrong(node: ast.AST, loaders: set[str], name: str) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (n.name for n in names if n.name.partition(".")[0] in MODULES)
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
            yield module
        case ast.Call():
            call, keys = (
                ast.unparse(node.func),
                {k.arg: ast.unparse(k.value) for k in node.keywords},
            )
            last = call.rpartition(".")[2]
            if call in CALLS or last in METHODS or keys.get("shell", "False") != "False":
                yield call
            if call == "torch.load" and keys.get("weights_only") != "True":
                yield "torch.load without weights_only=True"
            if last in ("load", "read_array") and call.startswith(("np.", "numpy.")):
                if keys.get("allow_pickle") != "False":
                    yield f"{call} without allow_pickle=False"
            elif keys.get("allow_pickle", "False") != "False":
                yield f"{call} with allow_pickle"
            if call in ("yaml.load", "yaml.load_all") and keys.get("Loader") not in loaders:
                yield f"{call} without a safe loader"
            if (
                call in ("torch.jit.load", "importlib.import_module")
                and (name, call) not in PROGRAMS
            ):
                yield call


def test_no_code_of_ours_runs_what_it_reads() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = [
        wrong
        for file in files
        for wrong in unsafe(file.read_text(encoding="utf-8"), str(file.relative_to(PACKAGE)))
        # The public names of the package: from its own table.
        if not wrong.startswith("__init__.py") or "import_module" not in wrong
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from dill import loads", "import tarfile", "eval(text)", "os.system(text)",
        "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path)",
        "np.load(path, allow_pickle=True)", "np.lib.format.read_array(file)", "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)", "yaml.load_all(text, Loader=loader())",
        "yaml.unsafe_load(text)", "archive.extractall(folder)",
        "subprocess.run(text, shell=True)", "torch.jit.load(path)", "h5.read(allow_pickle=True)",
    ],
)  # fmt: skip
def test_each_such_line_is_found(line: str) -> None:
    assert len(unsafe(line, "some.py")) == 1


# -- what is read -----------------------------------------------------------------------------------


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def npy(path: Path, trap: Trap) -> str:
    np.save(path / "v.npy", np.array([[[trap]]], dtype=object), allow_pickle=True)
    return str(path / "v.npy")


def npz(path: Path, trap: Trap) -> str:
    np.savez(
        path / "v.npz", projections=np.array([[[trap]]], dtype=object), angles=np.array([trap])
    )
    return str(path / "v.npz")


def weights(path: Path, trap: Trap) -> str:
    (path / "w.json").write_text("{}")
    (path / "w.safetensors").write_bytes(pickle.dumps(trap))
    return str(path / "w.safetensors")


def torchscript(path: Path, trap: Trap) -> str:
    with zipfile.ZipFile(path / "w.pt", "w") as archive:  # as torch.save makes them
        archive.writestr("w/data.pkl", pickle.dumps(trap))
        archive.writestr("w/version", "3")
    return str(path / "w.pt")


def zarr_with_pickles(where: str) -> Callable[[Path, Trap], str]:
    codec = {"id": "pickle", "protocol": 5}

    def make(path: Path, trap: Trap) -> str:
        about = {
            "zarr_format": 2, "shape": [4, 4, 4], "chunks": [4, 4, 4], "dtype": "<f4", "order": "C",
            "fill_value": 0, "compressor": None, "filters": None,
        }  # fmt: skip
        about[where] = codec if where == "compressor" else [codec]
        (path / "v.zarr").mkdir()
        (path / "v.zarr" / ".zarray").write_text(json.dumps(about))
        (path / "v.zarr" / "0.0.0").write_bytes(pickle.dumps(trap))
        return str(path / "v.zarr")

    return make


@pytest.mark.parametrize(
    ("make", "command"),
    [
        (npy, "evaluate {} phantom:1,1,1"),
        (npy, "simulate {} {}.zarr"),
        (npz, "ingest {} {}.zarr"),
        (zarr_with_pickles("filters"), "evaluate {} phantom:4,4,4 --region all"),
        (zarr_with_pickles("compressor"), "simulate {} {}-tilts.zarr"),
        (weights, "plan tilts.zarr --set denoiser={}"),
        (torchscript, "plan tilts.zarr --set denoiser={}"),
    ],
    ids=[
        "npy",
        "npy-volume",
        "npz",
        "zarr-filter",
        "zarr-compressor",
        "safetensors",
        "torchscript",
    ],
)
def test_a_pickle_in_any_input_is_refused_and_does_not_run(
    make: Callable[[Path, Trap], str],
    command: str,
    tilts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tilts.parent)
    trap = Trap(tmp_path / "sprung")
    name = make(tmp_path, trap)
    assert main([word.replace("{}", name) for word in command.split()]) == 2
    told = capsys.readouterr().err
    assert "error" in told
    assert not trap.mark.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.mark.exists()  # so it would have been


# -- stores that lead elsewhere ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tilts") / "tilts.zarr"
    dd.simulate(TissuePhantom((12, 4, 96), seed=0), path, noise="gaussian:0.05", field=64)
    return path


@pytest.fixture(scope="module")
def result(tilts: Path) -> Path:
    path = tilts.parent / "result.zarr"
    dd.reconstruct(tilts, path, {"N": 2, "K": 2}, engine="local")
    return path


def copied(store: Path, folder: Path) -> Path:
    return Path(shutil.copytree(store, folder / store.name))


def moved_out(store: Path, inside: str) -> Path:
    """Move a part of a store beside it, and leave a link; what was moved."""
    outside = store.parent / "outside"
    shutil.move(store / inside, outside)
    (store / inside).symlink_to(outside)
    return outside


OUTWARD = "leads out of it"


@pytest.mark.parametrize("inside", ["projections", "projections/c/0", "projections/zarr.json"])
def test_a_link_out_of_a_tilt_series_is_not_followed(
    tilts: Path, tmp_path: Path, inside: str
) -> None:
    store = copied(tilts, tmp_path)
    open_tilt_series(store)
    moved_out(store, inside)
    for use in (open_tilt_series, dd.plan):
        with pytest.raises(InputError, match=OUTWARD) as caught:
            use(store)
        assert f"the link {inside} " in str(caught.value)


def test_a_link_to_the_store_and_links_within_it_are_followed(tilts: Path, tmp_path: Path) -> None:
    store = copied(tilts, tmp_path)
    shutil.move(store / "projections" / "c", store / "projections" / "d")
    (store / "projections" / "c").symlink_to("d")
    (tmp_path / "link.zarr").symlink_to(store)
    rows = slice(0, 4)
    np.testing.assert_array_equal(
        open_tilt_series(tmp_path / "link.zarr").read(rows),
        open_tilt_series(tilts).read(rows),
    )


@pytest.mark.parametrize("inside", ["0", "0/c/0", "ddgm_dist", "ddgm_dist/receipts"])
def test_a_link_out_of_a_result_is_neither_read_nor_written_through(
    tilts: Path, result: Path, tmp_path: Path, inside: str
) -> None:
    store = copied(result, tmp_path)
    outside = moved_out(store, inside)
    before = {file: file.stat().st_mtime_ns for file in outside.rglob("*")}
    (store / "ddgm_dist" / "state.json").exists()
    uses: list[Callable[[], Any]] = [
        lambda: dd.open_result(store),
        lambda: dd.evaluate(store, TissuePhantom((12, 4, 64), seed=0)),
        lambda: build_pyramid(store),
        lambda: verify(store),
        lambda: dd.reconstruct(tilts, store, {"N": 2, "K": 2}, engine="local"),
        lambda: dd.reconstruct(tilts, store, {"N": 3, "K": 2}, engine="local", overwrite=True),
    ]
    for use in uses:
        with pytest.raises(InputError, match=OUTWARD):
            use()
    assert {file: file.stat().st_mtime_ns for file in outside.rglob("*")} == before


def test_what_is_neither_file_nor_folder_is_not_opened(tilts: Path, tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    store = copied(tilts, tmp_path)
    os.mkfifo(store / "projections" / "c" / "9")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        open_tilt_series(store)


@pytest.mark.parametrize(
    "level", ["../other.zarr/0", "/{}/other.zarr/0", "0/../0", "", ".", "a\\b"]
)
def test_a_level_is_within_its_image(
    result: Path, tmp_path: Path, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the store has a part of that name, as zarr-python and tensorstore read it."""
    other, store = copied(result, tmp_path), tmp_path / "image.zarr"
    other = other.rename(tmp_path / "other.zarr")
    shutil.copytree(result, store)
    level = level.replace("/{}", str(tmp_path))
    decoy = store / level.lstrip("/") if level.startswith("/") else None
    if decoy is not None:
        shutil.copytree(other / "0", decoy)
    about = json.loads((store / "zarr.json").read_text())
    about["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = level
    (store / "zarr.json").write_text(json.dumps(about))
    for use in (dd.open_result, open_volume, build_pyramid, verify):
        with pytest.raises(InputError):
            use(store)
    assert main(["evaluate", str(store), "phantom:12,4,64"]) == 2
    assert "error" in capsys.readouterr().err


def test_a_coarse_level_is_within_its_image(result: Path, tmp_path: Path) -> None:
    """A pyramid that is made anew deletes the levels that the metadata name."""
    store = copied(result, tmp_path)
    other = Path(shutil.copytree(result / "0", tmp_path / "precious"))
    about = json.loads((store / "zarr.json").read_text())
    levels = about["attributes"]["ome"]["multiscales"][0]["datasets"]
    levels.append({**levels[0], "path": "../precious"})
    (store / "zarr.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="leads out of it"):
        build_pyramid(store, levels=1, overwrite=True)
    assert zarr.open_array(other, mode="r").shape == (12, 4, 64)


@pytest.mark.parametrize("problem", ["../../../secret", "/etc", "..", "a/b", ""])
def test_the_problem_of_a_record_names_no_folder_elsewhere(
    tilts: Path, result: Path, tmp_path: Path, problem: str
) -> None:
    """Receipts and samples lie in folders of its name."""
    store = copied(result, tmp_path)
    state = {"state": "complete", "problem": problem}
    (store / "ddgm_dist" / "state.json").write_text(json.dumps(state))
    secret = store.parent / "secret"
    shutil.copytree(result, secret / "0")
    uses: list[Callable[[], Any]] = [
        lambda: dd.open_result(store),
        lambda: dd.open_result(store, what=0),
        lambda: verify(store),
        lambda: dd.status(store),
    ]
    for use in uses:
        with pytest.raises(DdgmError, match="no hash of a problem"):
            use()
