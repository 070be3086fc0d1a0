"""Zarr stores of any codec that numcodecs has are read as those of tensorstore's codecs are."""

import json
import pickle
import uuid

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import numcodecs as of_version_3

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.files import delete, write_bytes
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.numcodecs_array import NumcodecsArray
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.tilts.metadata import TiltSeriesMeta, dump_meta
from ddgm_dist.tilts.series import open_tilt_series
from ddgm_dist.tilts.survey import survey

DATA = np.random.default_rng(0).integers(0, 200, size=(4, 9, 20))
ALL = slice(None)
LZ4 = {"compressors": numcodecs.LZ4()}
# By name: how the array is made, and whether tensorstore has the codecs.
KINDS = {
    "lz4": (LZ4, False),
    "lzma": ({"compressors": numcodecs.LZMA()}, False),
    "blosc": ({"compressors": numcodecs.Blosc("lz4", shuffle=2)}, True),
    "bz2": ({"compressors": numcodecs.BZ2()}, True),
    "delta": ({"filters": [numcodecs.Delta("f4")], "compressors": None}, False),
    "fixed": ({"filters": [numcodecs.FixedScaleOffset(0, 10, "f4", "i4")], **LZ4}, False),
    "shuffle": ({"filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib()}, False),
    "crc32": ({"filters": [numcodecs.CRC32()], **LZ4}, False),
    "big": ({"dtype": ">f4", **LZ4}, False),
    "F": ({"order": "F", **LZ4}, False),
    "slash": ({"chunk_key_encoding": {"name": "v2", "separator": "/"}, **LZ4}, False),
    "integers": ({"dtype": ">u2", "filters": [numcodecs.Delta(">u2")], **LZ4}, False),
    "plain": ({"compressors": None}, True),
}


def stored(path, kind):
    """A tilt series of Zarr version 2."""
    options = {"dtype": "<f4", "fill_value": 0, "chunks": (2, 4, 7), **KINDS[kind][0]}
    group = zarr.create_group(path, zarr_format=2)
    array = group.create_array("projections", shape=DATA.shape, **options)
    array[:] = DATA
    group.attrs["ddgm_dist"] = dump_meta(TiltSeriesMeta((-30.0, -10.0, 10.0, 30.0)))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_codec_reads_the_same(tmp_path, kind):
    path = stored(tmp_path / "t.zarr", kind)
    series = open_tilt_series(path)
    assert isinstance(series._bulk._store, NumcodecsArray) != KINDS[kind][1]
    np.testing.assert_array_equal(series.read(ALL), DATA)
    np.testing.assert_array_equal(series.read(slice(3, 8), slice(5, 19)), DATA[:, 3:8, 5:19])
    lines = series.read_lines(slice(2, 7), [0, 3, 9, 1], 8)
    expected = np.stack([DATA[t, 2:7, a : a + 8] for t, a in enumerate([0, 3, 9, 1])])
    np.testing.assert_array_equal(lines, expected)
    with pytest.raises(IndexError):
        series.read(slice(0, 10))
    volume = open_volume(path / "projections")
    np.testing.assert_array_equal(volume.read(Box((0, 0, 0), DATA.shape)), DATA)


def test_what_is_read_does_not_depend_on_the_codec(tmp_path):
    prints = {open_tilt_series(stored(tmp_path / k, k)).fingerprint() for k in ("lz4", "plain")}
    assert len(prints) == 1


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in")
def test_arrays_of_version_3_with_such_codecs_are_read(tmp_path):
    group = zarr.create_group(tmp_path / "t.zarr")
    array = group.create_array(
        "projections",
        shape=DATA.shape,
        chunks=(2, 4, 7),
        dtype="f4",
        compressors=of_version_3.LZ4(),
    )
    array[:] = DATA
    group.attrs["ddgm_dist"] = dump_meta(TiltSeriesMeta((-30.0, -10.0, 10.0, 30.0)))
    series = open_tilt_series(tmp_path / "t.zarr")
    np.testing.assert_array_equal(series.read(ALL), DATA)
    (tmp_path / "t.zarr/projections/c/0/1/1").unlink()
    with pytest.raises(StorageError, match=r"chunk \(0, 1, 1\) .* is missing"):
        series.read(ALL)


@pytest.mark.parametrize("kind", ["lz4", "slash", "delta"])
def test_a_chunk_that_is_missing_or_damaged_is_an_error_with_its_place(tmp_path, kind):
    path = stored(tmp_path / "t.zarr", kind)
    separator = "/" if kind == "slash" else "."
    chunk = path / "projections" / separator.join("012")
    series = open_tilt_series(path)
    content = chunk.read_bytes()
    chunk.write_bytes(content[:5])
    says = r"chunk \(0, 1, 2\) .* is unreadable: tilts 0 to 1, rows 4 to 7, columns 14 to 19"
    with pytest.raises(StorageError, match=says):
        series.read(ALL)
    chunk.unlink()
    with pytest.raises(StorageError, match=r"chunk \(0, 1, 2\) .* is missing"):
        series.read_lines(ALL, [0, 1, 2, 3], 16)
    np.testing.assert_array_equal(series.read(slice(0, 4)), DATA[:, :4])


def test_such_a_store_in_a_bucket_is_read_and_misses_no_chunk(tmp_path, bucket):
    url = f"{bucket}/{uuid.uuid4().hex}/t.zarr"
    place, folder = locate(url, "out"), stored(tmp_path / "t.zarr", "lz4")
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".zmetadata":
            write_bytes(place / str(path.relative_to(folder)), path.read_bytes())
    series = open_tilt_series(url)
    assert isinstance(series._bulk._store, NumcodecsArray)
    np.testing.assert_array_equal(series.read(ALL), DATA)
    delete(place / "projections/0.1.2")
    with pytest.raises(StorageError, match=r"chunk \(0, 1, 2\) .* is missing"):
        series.read(ALL)


class Opened:
    """What a pickle may run."""

    def __reduce__(self):
        return (print, ("PICKLE RAN",))


def test_pickles_are_refused_and_not_run(tmp_path, capsys):
    path = stored(tmp_path / "t.zarr", "plain")
    metadata = json.loads((path / "projections/.zarray").read_text())
    metadata["compressor"] = {"id": "pickle", "protocol": 5}
    (path / "projections/.zarray").write_text(json.dumps(metadata))
    for chunk in (path / "projections").glob("*.*.*"):
        chunk.write_bytes(pickle.dumps(Opened()))
    with pytest.raises(InputError, match="pickles"):
        open_tilt_series(path)
    with pytest.raises(InputError, match="pickles"):
        open_volume(path / "projections")
    assert "PICKLE RAN" not in capsys.readouterr().out


def test_a_codec_that_nobody_has_is_named(tmp_path):
    path = stored(tmp_path / "t.zarr", "plain")
    metadata = json.loads((path / "projections/.zarray").read_text())
    metadata["compressor"] = {"id": "nobody_has_this"}
    (path / "projections/.zarray").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="nobody_has_this"):
        open_tilt_series(path)


def test_a_series_of_values_beyond_float32_is_refused_with_the_place(tmp_path):
    group = zarr.create_group(tmp_path / "t.zarr")
    data = DATA.astype(np.float64)
    data[3, 6, 9] = -4e40
    group.create_array("projections", data=data, chunks=(2, 4, 7))
    group.attrs["ddgm_dist"] = dump_meta(TiltSeriesMeta((-30.0, -10.0, 10.0, 30.0)))
    series = open_tilt_series(tmp_path / "t.zarr")
    for read in (
        lambda: series.read(slice(5, 9), slice(4, 12)),
        lambda: series.read_lines(slice(5, 9), [0, 1, 2, 3], 12),
        series.fingerprint,
        lambda: survey(series),
    ):
        with pytest.raises(InputError, match=r"-4e\+40 at \(3, 6, 9\)"):
            read()
    np.testing.assert_array_equal(series.read(slice(0, 6)), data[:, :6])
