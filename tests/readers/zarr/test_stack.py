"""Tilt series in Zarr come with their axes, angles and pixel size, whoever wrote them."""

import json
import os
import pickle

import numcodecs
import numpy as np
import pytest
import tensorstore as ts
import yaozarrs
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yaozarrs import v05
from yaozarrs.write.v05 import write_image
from zarr.codecs import numcodecs as codecs_v3

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.locate import locate
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.readers.zarr.stack import open_zarr_stack
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

DATA = np.random.default_rng(5).integers(1, 60_000, (7, 4, 6)).astype(np.uint16)
ANGLES = np.linspace(-60, 60, 7)


def opened(path, dataset=None, **options):
    return open_zarr_stack(locate(path, "source"), dataset, **options)


def whole(source):
    return source.read(Box((0, 0, 0), source.shape))


def refused(says, path, dataset=None):
    with pytest.raises(InputError, match=says) as error:
        opened(path, dataset)
    return str(error.value)


def by_zarr_python(path, data=DATA, zarr_format=3, **options):
    options = {"chunks": (2, 3, 4)} | options
    zarr.create_array(str(path), data=data, zarr_format=zarr_format, **options)


def v2_delta(path):
    by_zarr_python(path, zarr_format=2, filters=[numcodecs.Delta("<u2")], compressors=None)


def v2_quantized(path):
    scaled = numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="<f8", astype="<u2")
    by_zarr_python(path, DATA.astype("<f8"), 2, filters=[scaled, numcodecs.Delta("<u2")])


def v2_big_endian_fortran(path):
    keys = {"name": "v2", "separator": "/"}
    by_zarr_python(path, DATA.astype(">u2"), 2, order="F", chunk_key_encoding=keys)


def v3_sharded_big_endian(path):
    by_zarr_python(path, DATA.astype(">u2"), shards=(4, 6, 4))


def v3_flat_keys(path):
    by_zarr_python(path, chunk_key_encoding={"name": "v2", "separator": "."})


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def v3_numcodecs(path):
    by_zarr_python(path, filters=[codecs_v3.Delta(dtype="<u2")])


def by_tensorstore(path, driver, metadata):
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}
    store = ts.open(
        spec | {"metadata": metadata}, create=True, dtype=ts.uint16, shape=DATA.shape
    ).result()
    store[...] = DATA


def tensorstore_v2(path):
    metadata = {"dtype": ">u2", "chunks": [3, 4, 5], "order": "F", "dimension_separator": "/"}
    by_tensorstore(path, "zarr", metadata | {"compressor": {"id": "zstd", "level": 3}})


def tensorstore_v3(path):
    inner = [{"name": "transpose", "configuration": {"order": [2, 0, 1]}}]
    inner += [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]
    sharding = {"chunk_shape": [1, 2, 3], "codecs": inner}
    by_tensorstore(
        path,
        "zarr3",
        {
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 4, 6]}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    )


def by_hand(path):
    """Version 2, as its specification has it, compressed by numcodecs alone."""
    path.mkdir()
    compressor = numcodecs.Zlib(4)
    head = {
        "zarr_format": 2,
        "shape": DATA.shape,
        "chunks": (7, 4, 3),
        "dtype": "<u2",
        "order": "C",
    }
    head |= {"compressor": compressor.get_config(), "fill_value": 0, "filters": None}
    (path / ".zarray").write_text(json.dumps(head))
    for i in range(2):
        part = np.ascontiguousarray(DATA[:, :, 3 * i : 3 * i + 3], "<u2")
        (path / f"0.0.{i}").write_bytes(compressor.encode(part))


WRITERS = [
    by_zarr_python,
    v2_delta,
    v2_quantized,
    v2_big_endian_fortran,
    v3_sharded_big_endian,
    v3_flat_keys,
    v3_numcodecs,
    tensorstore_v2,
    tensorstore_v3,
    by_hand,
]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize("writer", WRITERS)
def test_arrays_of_all_writers_read_the_same(tmp_path, writer):
    writer(tmp_path / "a.zarr")
    found = opened(tmp_path / "a.zarr")
    assert isinstance(found.stack, VolumeSource)
    np.testing.assert_array_equal(whole(found.stack), DATA)
    part = Box((1, 1, 2), (6, 3, 6))
    again = pickle.loads(pickle.dumps(found.stack))
    np.testing.assert_array_equal(again.read(part), DATA[part.slices()])
    assert not any("not there" in note for note in found.notes)
    with pytest.raises(IndexError):
        found.stack.read(Box((0, 0, 0), (8, 4, 6)))


def ome(path, names, shape, scale, unit="nanometer", version="0.5", levels=1):
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": name, "type": kinds.get(name, "space")}
        | ({"unit": unit} if name in "zyx" and unit else {})
        for name in names
    ]
    datasets = [
        {"path": f"s{i}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for i in range(levels)
    ]
    stated = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    if version == "0.5":
        group.attrs["ome"] = {"version": version} | stated
    else:
        stated["multiscales"][0]["version"] = version
        group.attrs.update(stated)
    for i in range(levels):
        group.create_array(f"s{i}", data=DATA.reshape(shape)[..., :: 2**i])
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("names", "shape"),
    [
        ("zyx", (7, 4, 6)),
        ("tyx", (7, 4, 6)),
        ("tczyx", (7, 1, 1, 4, 6)),
        ("tczyx", (1, 1, 7, 4, 6)),
        ("czyx", (1, 7, 4, 6)),
    ],
)
def test_images_of_ome_zarr_have_axes_and_pixel_size(tmp_path, version, names, shape):
    scale = [5.0] * (len(names) - 2) + [1.35, 1.35]
    ome(tmp_path / "a.zarr", names, shape, scale, version=version, levels=2)
    found = opened(tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole(found.stack), DATA)
    assert found.pixel_size_nm == pytest.approx(1.35)
    assert found.origins["pixel_size_nm"] == "its OME scale"
    assert found.origins["stack"].endswith("a.zarr/s0")


@pytest.mark.parametrize(
    ("unit", "size"), [("angstrom", 0.135), ("micrometer", 1350), ("parsec", None), ("", None)]
)
def test_units_of_the_scale_are_converted_or_not_used(tmp_path, unit, size):
    ome(tmp_path / "a.zarr", "zyx", DATA.shape, [9, 1.35, 1.35], unit)
    found = opened(tmp_path / "a.zarr")
    assert found.pixel_size_nm == (size if size is None else pytest.approx(size))
    assert (size is None) == any("no unit of length" in note for note in found.notes)


def test_pixels_that_are_not_square_are_refused(tmp_path):
    ome(tmp_path / "a.zarr", "zyx", DATA.shape, [9, 1.35, 1.45])
    refused("pixels are not square: 1.35 nm", tmp_path / "a.zarr")


def test_images_written_by_yaozarrs_are_read(tmp_path):
    axes = [v05.TimeAxis(name="t"), v05.SpaceAxis(name="y", unit="angstrom")]
    axes.append(v05.SpaceAxis(name="x", unit="angstrom"))
    scale = v05.ScaleTransformation(scale=[1, 21.7, 21.7])
    level = v05.Dataset(path="0", coordinateTransformations=[scale])
    image = v05.Image(multiscales=[v05.Multiscale(axes=axes, datasets=[level])])
    extra = {"tilt_angles": ANGLES.tolist()}
    write_image(tmp_path / "a.zarr", image, DATA, extra_attributes=extra, shards=None)
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))
    found = opened(tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole(found.stack), DATA)
    assert found.pixel_size_nm == pytest.approx(2.17)
    np.testing.assert_allclose(found.angles_deg, ANGLES)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_names_of_axes_lead_the_tilts_to_the_front(tmp_path, zarr_format):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=zarr_format)
    turned, names = DATA.transpose(2, 0, 1), ("x", "theta", "y")
    options = {"dimension_names": names} if zarr_format == 3 else {}
    array = group.create_array("images", data=turned, **options)
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = names
    angles = group.create_array("theta", data=np.radians(ANGLES))
    angles.attrs["units"] = "radians"
    found = opened(tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole(found.stack), DATA)
    part = Box((1, 1, 2), (6, 3, 5))
    np.testing.assert_array_equal(found.stack.read(part), DATA[part.slices()])
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    assert any("axes (1, 2, 0)" in note for note in found.notes)
    # The array by itself finds what lies beside it.
    inner = opened(tmp_path / "a.zarr/images")
    np.testing.assert_allclose(inner.angles_deg, ANGLES)


def test_angles_are_found_in_attributes_and_counted(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    array = group.create_array("images", data=DATA)
    assert opened(tmp_path / "a.zarr").angles_deg is None
    array.attrs["angles_deg"] = ANGLES.tolist()
    found = opened(tmp_path / "a.zarr")
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    assert "attribute angles_deg of" in found.origins["angles_deg"]
    array.attrs["angles_deg"] = ANGLES.tolist()[:-1]
    message = refused("holds 6 angles", tmp_path / "a.zarr")
    assert "has 7 projections" in message
    assert "angles_deg" in message
    assert opened(tmp_path / "a.zarr", angles=False).angles_deg is None
    group.create_array("rotation_angle", data=ANGLES)
    found = opened(tmp_path / "a.zarr")
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    assert any("with 6 angles: not used" in note for note in found.notes)


def test_flats_and_darks_lie_beside_the_projections(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    group.create_array("data", data=DATA)
    group.create_array("data_white", data=DATA[:2])
    group.create_array("darks", data=DATA[3:6])
    found = opened(tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole(found.stack), DATA)
    np.testing.assert_array_equal(whole(found.flats), DATA[:2])
    np.testing.assert_array_equal(whole(found.darks), DATA[3:6])
    assert found.origins["darks"].endswith("a.zarr/darks")
    group.create_array("flats", data=DATA[:, :, :5])
    del group["data_white"]
    refused(r"images of \(4, 5\) pixels", tmp_path / "a.zarr")


def test_which_array_is_asked_where_there_are_several(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    refused("holds no array of three axes", tmp_path / "a.zarr")
    group.create_array("a/raw", data=DATA)
    group.create_array("a/angles", data=ANGLES)
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.zarr").stack), DATA)
    ome(tmp_path / "a.zarr/b", "zyx", DATA.shape, [1, 1, 1], levels=2)
    message = refused("holds 2 arrays that may be the projections", tmp_path / "a.zarr")
    assert "b/s0" in message
    assert "a/raw" in message
    assert opened(tmp_path / "a.zarr", "a/raw").angles_deg is not None
    assert opened(tmp_path / "a.zarr", "b").origins["stack"].endswith("b/s0")
    assert opened(tmp_path / "a.zarr", "b/s1").stack.shape == (7, 4, 3)
    refused("is not in", tmp_path / "a.zarr", "c")
    refused("without OME metadata", tmp_path / "a.zarr", "a")
    refused("leads out of it", tmp_path / "a.zarr", "../a.zarr/b")
    refused("is an array itself", tmp_path / "a.zarr/a/raw", "b")


def test_metadata_that_name_what_is_not_there_are_refused(tmp_path):
    group = ome(tmp_path / "a.zarr", "zyx", DATA.shape, [1, 1, 1])
    del group["s0"]
    refused("'s0', which is not there", tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr/zarr.json").write_text("{")
    refused("not a Zarr store", tmp_path / "b.zarr")
    by_zarr_python(tmp_path / "c.zarr", DATA[0], chunks=(4, 6))
    refused("three axes", tmp_path / "c.zarr")
    by_zarr_python(tmp_path / "d.zarr", DATA + 1j)
    refused("complex", tmp_path / "d.zarr")


def test_files_that_are_not_there_are_counted(tmp_path):
    by_zarr_python(tmp_path / "a.zarr", chunks=(1, 4, 3))
    for key in ("c/4/0/1", "c/5/0/0", "c/5/0/1"):
        (tmp_path / "a.zarr" / key).unlink()
    notes = opened(tmp_path / "a.zarr").notes
    assert any("3 of 14 files are not there and read as the fill value 0" in n for n in notes)
    assert any("1 of 7 images have none, the first is 5" in note for note in notes)
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(7, 4, 6), dtype="u2", chunks=(1, 4, 6))
    refused("none of its 7 files is there", tmp_path / "b.zarr")


def test_truncated_files_are_an_error(tmp_path):
    by_zarr_python(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/c/1/0/0"
    file.write_bytes(file.read_bytes()[:-3])
    stack = opened(tmp_path / "a.zarr").stack
    np.testing.assert_array_equal(stack.read(Box((0, 0, 0), (2, 4, 6))), DATA[:2])
    with pytest.raises(StorageError, match=r"a\.zarr"):
        whole(stack)


@pytest.mark.parametrize("dtype", ["<u2", "|O"])
@pytest.mark.parametrize("key", ["compressor", "filters"])
def test_pickles_are_refused(tmp_path, key, dtype):
    by_zarr_python(tmp_path / "a.zarr", zarr_format=2)
    pickles = {"id": "pickle", "protocol": 5}
    head = json.loads((tmp_path / "a.zarr/.zarray").read_text()) | {"dtype": dtype}
    head[key] = pickles if key == "compressor" else [pickles]
    (tmp_path / "a.zarr/.zarray").write_text(json.dumps(head))
    refused("pickle|real numbers|not a Zarr store", tmp_path / "a.zarr")
    if dtype == "<u2":
        refused("pickle", tmp_path / "a.zarr")


def test_a_store_that_needs_no_ingest_is_refused(tmp_path):
    write_tilt_series(tmp_path / "t.zarr", DATA, TiltSeriesMeta(tuple(ANGLES)))
    for path in (tmp_path / "t.zarr", tmp_path / "t.zarr/projections"):
        assert "plan or reconstruct" in refused("is a tilt-series store already", path)


def test_object_stores_are_read_by_url(bucket):
    place = locate(f"{bucket}/a.zarr", "source")
    spec = {"driver": "s3", "bucket": place.bucket, "path": f"{place.key}/"}
    spec |= {"endpoint": os.environ["AWS_ENDPOINT_URL"], "aws_region": "us-east-1"}
    store = ts.KvStore.open(spec).result()
    memory = {}
    group = zarr.create_group(memory)
    group.create_array("images", data=DATA, chunks=(1, 4, 6))
    group.create_array("angles", data=ANGLES)
    for key, value in memory.items():
        if key != "images/c/3/0/0":
            store.write(key, value.to_bytes()).result()
    found = opened(f"{bucket}/a.zarr")
    expected = DATA.copy()
    expected[3] = 0
    np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(found.stack))), expected)
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    assert any("1 of 7 images have none, the first is 3" in note for note in found.notes)


def test_volumes_of_the_same_store_are_the_same_array(tmp_path):
    by_zarr_python(tmp_path / "a.zarr")
    np.testing.assert_array_equal(
        whole(open_volume(tmp_path / "a.zarr")), whole(opened(tmp_path / "a.zarr").stack)
    )


def places_in(value, path=()):
    """Paths of all values of a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(part, (*path, key))


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory):
    """OME-Zarr of both versions with angles, and their metadata by file."""
    folder = tmp_path_factory.mktemp("versions")
    documents = {}
    for version in ("0.4", "0.5"):
        path = folder / f"{version}.zarr"
        group = ome(path, "tczyx", (7, 1, 1, 4, 6), [1.0, 1.0, 1.0, 2.0, 2.0], version=version)
        group.create_array("angles_deg", data=ANGLES)
        group["s0"].attrs["tilt_angles"] = ANGLES.tolist()
        for file in path.rglob("*"):
            if file.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup"):
                documents[file] = file.read_text()
    return documents


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_damaged_metadata_are_an_error_or_an_answer(two_versions, data):
    file = data.draw(st.sampled_from(sorted(two_versions)))
    text = two_versions[file]
    if data.draw(st.booleans()):
        document = json.loads(text)
        path = data.draw(st.sampled_from(list(places_in(document))))
        other = st.none() | st.integers(-9, 9) | st.floats() | st.text(max_size=4)
        value = data.draw(other | st.lists(other, max_size=5) | st.just({}) | st.just("../x"))
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        if path:
            holder[path[-1]] = value
        text = json.dumps(document if path else value)
    else:
        at = data.draw(st.integers(0, len(text) - 1))
        text = (
            text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 3)) :]
        )
    store = next(p for p in file.parents if p.suffix == ".zarr")
    try:
        file.write_text(text, errors="replace")
        found = opened(store)
        whole(found.stack)
    except (InputError, StorageError):
        return
    finally:
        file.write_text(two_versions[file])
    assert found.angles_deg is None or len(found.angles_deg) == found.stack.shape[0]
    assert found.pixel_size_nm is None or 0 < found.pixel_size_nm < np.inf
