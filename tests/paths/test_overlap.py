"""No command and no Python call harms its input, however the output's place is written."""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ddgm_dist as dd
from ddgm_dist.cli import main
from ddgm_dist.demo.demo import run_demo
from ddgm_dist.errors import InputError
from ddgm_dist.paths.exchange import beside, set_aside
from ddgm_dist.paths.files import files_below, read_bytes
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.place import ObjectPath
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.readers.provenance import places_of
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.samples import sample_path
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

META = TiltSeriesMeta((-20.0, 0.0, 20.0), thickness_px=4)
KEYS: dict[str, Any] = {
    "N": 1, "K": 1, "denoiser": "halving:halve", "mean": 400.0, "std": 10.0, "sigma_y": 1.0,
}  # fmt: skip
SET = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module", autouse=True)
def halving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("denoiser")
    (folder / "halving.py").write_text("def halve(x, sigma):\n    return x / 2\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def digest(place: Path) -> dict[str, bytes]:
    """Names and bytes of all files below a place, or of the file that it is."""
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    return {str(path): path.read_bytes() for path in found if path.is_file()}


# -- inputs ----------------------------------------------------------------------------------------

STACK = (400 + np.random.default_rng(0).standard_normal((3, 4, 40))).astype(np.float32)


def npy(folder: Path) -> Path:
    np.save(folder / "in.npy", STACK)
    return folder / "in.npy"


def images(folder: Path) -> Path:
    (folder / "in").mkdir()
    for k in range(3):
        grey = np.random.default_rng(k).integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(grey).save(folder / f"in/{k}.png")
    return folder / "in"


def volume(folder: Path) -> Path:
    zarr.create_array(str(folder / "in.zarr"), data=STACK, chunks=(3, 2, 40))
    return folder / "in.zarr"


def series(folder: Path) -> Path:
    write_tilt_series(folder / "in.zarr", STACK, META)
    return folder / "in.zarr"


# -- commands: each as a call of Python and as words of the command line ---------------------------

Call = Callable[[Any, Any], object]
ANGLES = ["--angles=-20:20:20"]
COMMANDS: dict[str, tuple[Callable[[Path], Path], str, Call, Callable[[str, str], list[str]]]] = {
    "ingest": (
        npy,
        "out.zarr",
        lambda a, b: dd.ingest(a, b, angles=META.angles_deg, overwrite=True),
        lambda a, b: ["ingest", a, b, *ANGLES, "--overwrite"],
    ),
    "ingest of images": (
        images,
        "out.zarr",
        lambda a, b: dd.ingest(a, b, angles=META.angles_deg, overwrite=True),
        lambda a, b: ["ingest", a, b, *ANGLES, "--overwrite"],
    ),
    "simulate": (
        volume,
        "out.zarr",
        lambda a, b: dd.simulate(a, b, angles=META.angles_deg, overwrite=True),
        lambda a, b: ["simulate", a, b, *ANGLES, "--overwrite"],
    ),
    "reconstruct": (
        series,
        "out.zarr",
        lambda a, b: dd.reconstruct(a, b, KEYS, "local", overwrite=True),
        lambda a, b: ["reconstruct", a, b, "--engine", "local", "--overwrite", "-q", *SET],
    ),
    "tune": (
        series,
        "tuned.yaml",
        lambda a, b: dd.tune(a, KEYS, out=b, overwrite=True),
        lambda a, b: ["tune", a, "--out", b, "--overwrite", "-q", *SET],
    ),
    "train": (
        images,
        "w.safetensors",
        lambda a, b: dd.train([a], b, steps=1, patch=16, batch=1, overwrite=True, progress=False),
        lambda a, b: [
            "train", a, b, "--steps", "1", "--patch", "16", "--batch", "1", "--overwrite", "-q",
        ],
    ),
}  # fmt: skip


# -- where the output lies -------------------------------------------------------------------------

Relation = Callable[[Path, str], str]


def same(source: Path, name: str) -> str:
    return str(source)


def descendant(source: Path, name: str) -> str:
    return str(source / name)


def deep_descendant(source: Path, name: str) -> str:
    return str(source / "deep/deeper" / name)


def ancestor(source: Path, name: str) -> str:
    return str(source.parent)


def link(source: Path, name: str) -> str:
    to = source.parent.parent / f"link-{name}"
    to.symlink_to(source)
    return str(to)


def below_a_link(source: Path, name: str) -> str:
    to = source.parent.parent / "folder-link"
    to.symlink_to(source.parent)
    return str(to / source.name)


def hard_link(source: Path, name: str) -> str:
    os.link(source, source.parent.parent / name)
    return str(source.parent.parent / name)


def relative(source: Path, name: str) -> str:
    return os.path.relpath(source, source.parent)


def dotted(source: Path, name: str) -> str:
    return f"{source.parent}/nowhere/../{source.name}"


def url(source: Path, name: str) -> str:
    return source.as_uri()


def url_of_a_descendant(source: Path, name: str) -> str:
    return f"{source.as_uri()}/{name}"


def written(place: Path) -> Path:
    """One of the folders in which the replacement of a place is written."""
    return beside(place, "new-01234567")


def written_beside(source: Path, name: str) -> str:
    """The input is where the output's replacement would be written."""
    moved = source.parent / name
    source.rename(written(moved))
    return str(moved)


def put_aside(source: Path, name: str) -> str:
    """The input is where the output's former folder would be put."""
    source.rename(set_aside(source.parent / name))
    zarr.create_group(str(source.parent / name))
    return str(source.parent / name)


def other_case(source: Path, name: str) -> str:
    return str(source.with_name(source.name.upper()))


ONLY_FILES, ONLY_FOLDERS = [hard_link], [descendant, deep_descendant, url_of_a_descendant]
ANY = [
    same, ancestor, link, below_a_link, relative, dotted, url, written_beside, put_aside, other_case,
]  # fmt: skip
FOLDERS = sorted(command for command, (make, *_) in COMMANDS.items() if make is not npy)
FITTING = [
    *((relation, sorted(COMMANDS)) for relation in ANY),
    *((relation, sorted({*COMMANDS} - {*FOLDERS})) for relation in ONLY_FILES),
    *((relation, FOLDERS) for relation in ONLY_FOLDERS),
]


@contextlib.contextmanager
def blind_to_case(root: Path) -> Iterator[None]:
    """A file system that takes names of capitals for those of small letters, as macOS has it."""
    look = os.stat

    def stat(path: Any, *args: Any, **more: Any) -> os.stat_result:
        try:
            return look(path, *args, **more)
        except FileNotFoundError:
            name = os.fspath(path) if not isinstance(path, int) else ""
            if not str(name).startswith(str(root)):
                raise
            return look(str(root) + str(name)[len(str(root)) :].lower(), *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", stat)
        yield


def refuses(command: str, source: Any, out: str, *, python: bool) -> None:
    """The call, or the words of the command line, end with the error of a user."""
    *_, call, words = COMMANDS[command]
    if python:
        with pytest.raises(InputError) as caught:
            call(source, out)
        assert caught.value.exit_status == 2
    else:
        assert main(words(str(source), out)) == 2


@pytest.mark.parametrize(
    ("relation", "commands"), FITTING, ids=[relation.__name__ for relation, _ in FITTING]
)
@settings(max_examples=12)
@given(data=st.data())
def test_no_input_is_ever_changed(
    relation: Relation,
    commands: list[str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    command, python = data.draw(st.sampled_from(commands)), data.draw(st.booleans())
    make, name, *_ = COMMANDS[command]
    root = tmp_path_factory.mktemp("pair")
    folder = root / "here"
    folder.mkdir()
    source = make(folder)
    if relation is ancestor:  # a store that may be replaced holds the input
        zarr.create_group(str(folder))
    out = relation(source, name)
    moved = {written_beside: written, put_aside: set_aside}.get(relation)
    if moved is not None:
        source = moved(source.parent / name)
    before = digest(folder)
    blind = blind_to_case(root) if relation is other_case else contextlib.nullcontext()
    with blind, contextlib.chdir(folder):
        refuses(command, source, out, python=python)
    assert digest(folder) == before


# -- folders that are mounted twice ----------------------------------------------------------------

Mounts = Callable[[Path, Path], None]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounts]:
    """Mounts one folder on another; skips where that is not allowed."""

    def bind(folder: Path, at: Path) -> None:
        at.mkdir()
        try:
            subprocess.run(["mount", "--bind", folder, at], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("folders cannot be mounted here, which takes a superuser of Linux")

    yield bind
    for seen in reversed(list(mounts_in(tmp_path))):
        subprocess.run(["umount", seen], check=True)


def mounts_in(folder: Path) -> Iterator[str]:
    """Where something is mounted, also where a test that failed has moved it."""
    table = Path("/proc/self/mountinfo")
    for line in table.read_text().splitlines() if table.exists() else ():
        point = line.split(" ")[4].replace("\\040", " ")
        if Path(point).is_relative_to(folder):
            yield point


def seen_at_two_places(root: Path, make: Callable[[Path], Path], mount: Mounts) -> tuple[Path, str]:
    folder = root / "here"
    folder.mkdir()
    source = make(folder)
    mount(folder, root / "mounted here")
    return source, str(root / "mounted here" / source.name)


def mounted_itself(root: Path, make: Callable[[Path], Path], mount: Mounts) -> tuple[Path, str]:
    """The input is a mount of a folder within the output."""
    out = root / "out.zarr"
    zarr.create_group(str(out))
    source = make(out)
    mount(source, root / "mounted")
    return root / "mounted", str(out)


def in_a_mount_of_a_part(
    root: Path, make: Callable[[Path], Path], mount: Mounts
) -> tuple[Path, str]:
    """The input is seen through a mount of a folder that lies within the output."""
    out = root / "out.zarr"
    zarr.create_group(str(out))
    (out / "part").mkdir()
    source = make(out / "part")
    mount(out / "part", root / "mounted")
    return root / "mounted" / source.name, str(out)


def mounted_in_the_output(
    root: Path, make: Callable[[Path], Path], mount: Mounts
) -> tuple[Path, str]:
    """The output has a mount in it, of a folder that holds the input."""
    out = root / "out.zarr"
    zarr.create_group(str(out))
    (root / "here").mkdir()
    source = make(root / "here")
    mount(root / "here", out / "mounted")
    return source, str(out)


def not_yet_there(root: Path, make: Callable[[Path], Path], mount: Mounts) -> tuple[Path, str]:
    """The output does not exist, and would lie in the input."""
    source = make(root)
    mount(source, root / "mounted")
    return source, str(root / "mounted/new.zarr")


MOUNTED = [
    seen_at_two_places, mounted_itself, in_a_mount_of_a_part, mounted_in_the_output, not_yet_there,
]  # fmt: skip


@pytest.mark.parametrize("relation", MOUNTED, ids=lambda relation: relation.__name__)
@pytest.mark.parametrize("command", FOLDERS)
def test_no_input_is_changed_through_a_mount(
    command: str, relation: Callable[..., tuple[Path, str]], tmp_path: Path, mount: Mounts
) -> None:
    make, *_ = COMMANDS[command]
    source, out = relation(tmp_path, make, mount)
    before = digest(source)
    for python in (True, False):
        refuses(command, source, out, python=python)
        assert digest(source) == before
    with pytest.raises(InputError, match="which writing it would destroy"):
        refuse_overlap(place_of(out, "out"), "out", [("tilts", place_of(source, "tilts"))])
    assert digest(source) == before


def test_folders_that_are_mounted_apart_are_apart(tmp_path: Path, mount: Mounts) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mount(tmp_path / "a", tmp_path / "at a")
    mount(tmp_path / "b", tmp_path / "at b")
    for out, source in (("at a", "b"), ("at a", "at b"), ("at b/x", "a"), ("a", "b")):
        refuse_overlap(tmp_path / out, "out", [("tilts", tmp_path / source)])


# -- in a bucket -----------------------------------------------------------------------------------

IN_A_BUCKET: dict[str, Callable[[str], str]] = {
    "same": lambda at: at,
    "two slashes": lambda at: at.replace("/here/", "//here//"),
    "a dot": lambda at: at.replace("/here/", "/./here/./"),
    "a dot at its end": lambda at: f"{at}/.",
    "a slash at its end": lambda at: f"{at}/",
    "descendant": lambda at: f"{at}/./deep/out.zarr",
    "ancestor": lambda at: at.removesuffix("/in.zarr"),
    "ancestor with a dot": lambda at: f"{at.removesuffix('/in.zarr')}/./",
}


def objects(url: str) -> dict[str, bytes]:
    """Keys and bytes of all that lies below a place."""
    place = locate(url, "source")
    found = ["/".join(parts) for depth in range(1, 8) for parts in files_below(place, depth)]
    return {key: read_bytes(place / key) or b"" for key in found}


@pytest.mark.parametrize("relation", sorted(IN_A_BUCKET))
@pytest.mark.parametrize("command", ["ingest", "simulate", "reconstruct"])
@pytest.mark.parametrize("python", [True, False])
def test_no_input_in_a_bucket_is_ever_changed(
    command: str, relation: str, python: bool, bucket: str
) -> None:
    folder = f"{bucket}/{uuid.uuid4().hex}/here"
    source = f"{folder}/in.zarr"
    if command == "reconstruct":
        write_tilt_series(source, STACK, META)
    else:
        store = zarr_store(locate(source, "source"))
        zarr.create_array(store, data=STACK, chunks=(3, 2, 40))
    if relation.startswith("ancestor"):
        zarr.create_group(zarr_store(locate(folder, "source")))
    before = objects(folder)
    assert before
    out = IN_A_BUCKET[relation](source)
    refuses(command, source, out, python=python)
    assert objects(folder) == before
    with pytest.raises(InputError, match="which writing it would destroy"):
        refuse_overlap(locate(out, "out"), "out", [("source", locate(source, "source"))])


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_apart_from_its_input_each_command_writes(command: str, tmp_path: Path) -> None:
    """What the refusals above rest on: the same calls do their work where the output is elsewhere."""
    make, name, call, words = COMMANDS[command]
    if command == "tune":
        pytest.skip("takes longer; see test_tune.py")
    source = make(tmp_path)
    before = digest(source)
    call(source, tmp_path / name)
    assert main(words(str(source), str(tmp_path / name))) == 0
    assert digest(source) == before


def test_arrays_that_are_read_from_a_store_show_it(tmp_path: Path) -> None:
    store, file = volume(tmp_path), npy(tmp_path)
    array = zarr.open_array(str(store), mode="r")
    mapped = np.load(file, mmap_mode="r")
    for value in (
        array,
        da.from_zarr(str(store)),
        da.from_zarr(str(store))[1:] * 2,
        open_volume(store),
    ):
        assert store in [Path(str(place)) for place in places_of(value)]
    for value in (mapped, mapped[1:, ::2], open_volume(file)):
        assert places_of(value) == [file]
    assert places_of(np.zeros(3)) == places_of(TissuePhantom((2, 2, 2))) == []
    for value, out in ((da.from_zarr(str(store)), store), (mapped, tmp_path)):
        before = digest(out)
        with pytest.raises(InputError, match="which writing it would destroy"):
            dd.simulate(value, out, angles=META.angles_deg, overwrite=True)
        assert digest(out) == before


def test_objects_are_compared_by_bucket_and_key() -> None:
    def place(key: str, bucket: str = "tub") -> ObjectPath:
        return ObjectPath("s3", bucket, key)

    with pytest.MonkeyPatch.context() as patch:
        same = [("a/b", "a/b"), ("a", "a/b"), ("a/b/c", "a/b"), ("a//b/", "a/b")]
        patch.setattr("ddgm_dist.paths.locate.probe_bucket", lambda *a: None)
        for out, source in [*same, ("./a/./b/.", "a/b"), ("a/b", "a/./b")]:
            with pytest.raises(InputError, match="the input tilts"):
                refuse_overlap(locate(f"s3://tub/{out}", "out"), "out", [("tilts", place(source))])
        for out, source in (("a/b", "a/bc"), ("a/bc", "a/b"), ("a", "b"), ("A/b", "a/b")):
            refuse_overlap(place(out), "out", [("tilts", place(source))])
        refuse_overlap(place("a", "vat"), "out", [("tilts", place("a"))])
        refuse_overlap(Path("/a"), "out", [("tilts", place("a"))])


def test_files_that_a_command_reads_beside_its_data_are_inputs_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tilts, out = series(tmp_path), tmp_path / "out.zarr"
    zarr.create_group(str(out))
    config, angles = out / "run.yaml", out / "a.tlt"
    config.write_text("N: 1\n")
    angles.write_text("-20\n0\n20\n")
    for words in (
        ["reconstruct", str(tilts), str(out), "--config", str(config), "--overwrite"],
        ["simulate", "phantom:4,4,40", str(out), "--angles", str(angles), "--overwrite"],
        ["ingest", str(npy(tmp_path)), str(out), "--angles", str(angles), "--overwrite"],
        ["tune", str(tilts), "--config", str(config), "--out", str(config), "--overwrite"],
    ):
        before = digest(tmp_path)
        assert main(words) == 2
        assert "which writing it would destroy" in capsys.readouterr().err
        assert digest(tmp_path) == before
    weights = out / "w.pt"
    weights.write_bytes(b"x")
    with pytest.raises(InputError, match="the input denoiser"):
        dd.reconstruct(tilts, out, {**KEYS, "denoiser": str(weights)}, "local", overwrite=True)
    assert weights.exists()


def test_training_does_not_replace_files_that_belong_to_no_weights(tmp_path: Path) -> None:
    source, picture = images(tmp_path), tmp_path / "w.png"
    picture.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"w\.png beside it would be replaced"):
        dd.train([source], tmp_path / "w.safetensors", steps=1, patch=16, progress=False)
    assert picture.read_bytes() == b"mine"


def test_the_demo_replaces_only_what_a_demo_has_written(tmp_path: Path) -> None:
    mine = tmp_path / "tissue.zarr"
    mine.mkdir()
    (mine / "precious").write_text("keep")
    before = digest(tmp_path)
    with pytest.raises(InputError, match=r"holds tissue\.zarr, which no demo has written"):
        run_demo(tmp_path, report=print)
    assert main(["demo", str(sample_path("needle").parent)]) == 2
    assert digest(tmp_path) == before


def test_a_manifest_is_not_written_over_what_it_is_made_from(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        (Path(__file__).parents[2] / "deploy/kubernetes/base/site.yaml").read_text(encoding="utf-8")
    )
    before = digest(tmp_path)
    assert main(["manifest", "data-pod", "--site", str(site), "--output", str(site)]) == 2
    assert main(["manifest", "data-pod", "--site", str(site), "--output", str(tmp_path)]) == 2
    assert digest(tmp_path) == before
