"""A place is a folder or a part of a bucket, and what is done there has the same outcome."""

import http.server
import pickle
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths import object_store
from ddgm_dist.paths.files import (
    delete,
    delete_folder,
    exists,
    files_below,
    is_zarr,
    listdir,
    read_all,
    read_bytes,
    write_bytes,
)
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import ObjectPath, Place


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return locate(tmp_path / "root", "out")
    return locate(f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}", "out")


def test_what_is_written_is_read(root: Place) -> None:
    assert read_bytes(root / "a/b") is None
    assert not exists(root)
    write_bytes(root / "a/b", b"one")
    write_bytes(root / "a/b", b"two")
    write_bytes(root / "a/empty", b"")
    assert read_bytes(root / "a/b") == b"two"
    assert read_all([root / "a/b", root / "none", root / "a/empty"]) == [b"two", None, b""]
    assert exists(root)
    assert exists(root / "a/b")
    assert not exists(root / "a/c")


def test_names_are_those_of_one_folder(root: Place) -> None:
    for name in ("a/b/c", "a/b.c", "a/d", "a-b/c", "a0", "a/b/e/f"):
        write_bytes(root / name, b"x")
    assert listdir(root) == ["a", "a-b", "a0"]
    assert listdir(root / "a") == ["b", "b.c", "d"]
    assert listdir(root / "none") == []
    assert sorted(files_below(root / "a", 2)) in ([("b", "c")], [("b", "c"), ("b", "e")])
    assert files_below(root / "a", 3) == [("b", "e", "f")]


def test_what_is_deleted_is_gone_and_nothing_else(root: Place) -> None:
    for name in ("a/b/c", "a/b/d/e", "a/b.c", "a/b0", "a/b-c"):
        write_bytes(root / name, b"x")
    delete_folder(root / "a/b")
    delete_folder(root / "a/none")
    assert listdir(root / "a") == ["b-c", "b.c", "b0"]
    delete(root / "a/b0")
    delete(root / "a/none")
    assert listdir(root / "a") == ["b-c", "b.c"]
    delete_folder(root)
    assert not exists(root)


def test_a_store_is_known_by_its_metadata(root: Place) -> None:
    write_bytes(root / "a/zarr.json/x", b"")
    assert not is_zarr(root / "a")
    write_bytes(root / "b/.zgroup", b"{}")
    assert is_zarr(root / "b")
    assert not is_zarr(root)


def test_parts_of_a_place(bucket: str) -> None:
    place = locate(f"{bucket}//a/./b.zarr/".replace("/./", "/"), "out")
    assert isinstance(place, ObjectPath)
    assert str(place) == f"{bucket}/a/b.zarr"
    assert (place.name, place.stem, str(place.parent)) == ("b.zarr", "b", f"{bucket}/a")
    assert str(place / "c" / "d") == f"{bucket}/a/b.zarr/c/d"
    assert pickle.loads(pickle.dumps(place)) == place
    assert locate(str(place), "out") == place
    assert locate(place, "out") is place


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    assert locate(folder.as_uri(), "out") == folder
    assert locate(f"file://{folder}", "out") == folder
    assert locate(f"file://localhost{folder}", "out") == folder


@pytest.mark.parametrize("key", ["./a/b", "a/./b", "a/b/.", "/a//./b/", "a/././b"])
def test_one_place_in_a_bucket_has_one_name(key: str, bucket: str) -> None:
    assert locate(f"{bucket}/{key}", "source") == locate(f"{bucket}/a/b", "source")
    assert locate(f"{bucket}/a/.b/..c/d.", "source") != locate(f"{bucket}/a/b/c/d", "source")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://server/a.zarr", "unknown kind, http://"),
        ("file://folder/a.zarr", "three slashes"),
        ("s3://bucket", "s3://bucket/path"),
        ("s3:///a.zarr", "s3://bucket/path"),
        ("s3://bucket/../a.zarr", "does not name a place"),
        ("gs://buc ket/a.zarr", "gs://bucket/path"),
        (Path("s3://bucket/a.zarr"), "give it as text"),
    ],
)
def test_other_urls_are_refused(url: str | Path, why: str) -> None:
    with pytest.raises(InputError, match=why):
        locate(url, "out")


@pytest.mark.parametrize("scheme", ["s3", "https"])
def test_credentials_in_a_url_are_refused_and_not_repeated(scheme: str) -> None:
    with pytest.raises(InputError) as caught:
        locate(f"{scheme}://somebody:secret@bucket/a.zarr", "out")
    assert "secret" not in str(caught.value)


# -- stores that cannot be reached ------------------------------------------------------------------


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(InputError, match="'no-such-bucket' does not exist; make it"):
        locate("s3://no-such-bucket/a.zarr", "out")


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers everything as one does to a wrong key, and quotes the request."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>No</Message><Sent>secret</Sent></Error>"
        if self.path.startswith("/storage/"):  # Google's
            body = b'{"error": {"code": 403, "message": "No"}, "sent": "secret"}'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "gs": "TENSORSTORE_GCS_HTTP_URL"}
KEYS = {"s3": "AWS_ACCESS_KEY_ID", "gs": "GOOGLE_APPLICATION_CREDENTIALS"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    return monkeypatch


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_refused_credentials(scheme: str, refusing: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(ENDPOINT[scheme], refusing)
    environment.setenv("GCE_METADATA_ROOT", refusing.removeprefix("http://"))
    environment.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(InputError, match=f"refuses access.*{KEYS[scheme]}") as caught:
        locate(f"{scheme}://bucket/a.zarr", "out")
    assert "secret" not in str(caught.value)


def test_nobody_listens(environment: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"cannot be reached.*AWS_ENDPOINT_URL"):
            locate("s3://bucket/a.zarr", "out")
        assert time.monotonic() - began < 20


def test_nobody_answers(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(object_store, "_PROBE_SECONDS", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(StorageError, match="no answer within"):
            locate("s3://bucket/a.zarr", "out")


def test_an_endpoint_that_is_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "server:9000")
    with pytest.raises(StorageError, match=r"AWS_ENDPOINT_URL.*server:9000"):
        locate("s3://bucket/a.zarr", "out")


def test_the_environment_says_where(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://one:1")
    environment.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    environment.delenv("AWS_REGION", raising=False)
    place = ObjectPath("s3", "bucket", "a/b")
    spec = object_store.kvstore_spec(place)
    assert (spec["bucket"], spec["path"]) == ("bucket", "a/b/")
    assert (spec["endpoint"], spec["aws_region"]) == ("http://one:1", "eu-central-1")
    environment.setenv("AWS_REGION", "eu-north-1")
    environment.setenv("AWS_ENDPOINT_URL_S3", "http://two:2")
    spec = object_store.kvstore_spec(place)
    assert (spec["endpoint"], spec["aws_region"]) == ("http://two:2", "eu-north-1")
    assert "secret" not in repr(spec)
    assert "somebody" not in repr(spec)
    spec = object_store.kvstore_spec(ObjectPath("gs", "bucket", "a"))
    assert (spec["driver"], spec["bucket"], spec["path"]) == ("gcs", "bucket", "a/")


def test_the_root_is_no_place_for_anything() -> None:
    with pytest.raises(InputError, match="is the root of the file system"):
        locate("/", "out")
