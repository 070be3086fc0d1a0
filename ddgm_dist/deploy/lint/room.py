"""Rules of our own about resources: a run's memory, GPUs, disks and nodes."""

from __future__ import annotations

import posixpath
import shlex
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from pydantic import ByteSize, TypeAdapter, ValidationError

from ddgm_dist.deploy.lint.finding import Rule, Violation
from ddgm_dist.deploy.lint.reading import (
    Node,
    Pod,
    as_list,
    as_map,
    number_of,
    pods,
    ray_cluster,
    ray_pods,
    text_of,
)

__all__ = ["RULES"]

Problems = Iterator[Violation]


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        return None


def requests_are_limits(document: Node) -> Problems:
    for pod in ray_pods(document):
        where, container = pod.ray
        resources = as_map(container.get("resources"))
        requests, limits = as_map(resources.get("requests")), as_map(resources.get("limits"))
        for kind in sorted({"cpu", "memory"} | set(requests) | set(limits)):
            asked, given = number_of(requests.get(kind)), number_of(limits.get(kind))
            if asked is None or asked != given:
                yield Violation(
                    f"{where}.resources",
                    f"{kind}: requests {requests.get(kind)!r}, limits {limits.get(kind)!r}: what "
                    "the plan counts on may not be there",
                    f"write the same {kind} in both",
                )


def gpus_agree(document: Node) -> Problems:
    for pod in ray_pods(document):
        _, container = pod.ray
        limits = as_map(as_map(container.get("resources")).get("limits"))
        has = sum(
            (number_of(n) or Decimal(0) for k, n in limits.items() if k.endswith("gpu")), Decimal(0)
        )
        said = number_of(pod.params.get("num-gpus"))
        if said is not None and said != has:
            yield Violation(
                f"{pod.place}.rayStartParams.num-gpus",
                f"{said} GPUs are announced, and the container has {has}",
                "delete it: the operator takes the number from the container's limits",
            )


def object_store(document: Node) -> Problems:
    for pod in ray_pods(document):
        _, container = pod.ray
        limit = number_of(as_map(as_map(container.get("resources")).get("limits")).get("memory"))
        store = number_of(pod.params.get("object-store-memory"))
        tasks = number_of(pod.params.get("memory")) or Decimal(0)
        path = f"{pod.place}.rayStartParams.object-store-memory"
        if store is None:
            yield Violation(
                path,
                "is missing: Ray takes 30 % of the memory, which the plan gives to workers",
                'write bytes, such as "2147483648"',
            )
        elif limit is not None and store + tasks >= limit:
            yield Violation(
                path,
                f"with memory: {tasks} it comes to {store + tasks} bytes, and the container has "
                f"{limit}: nothing is left for Ray itself, and the kernel kills what is over",
                "raise the container's memory to a GiB more than both, or lower one",
            )


def spilling(document: Node) -> Problems:
    for pod in ray_pods(document):
        directory = text_of(pod.params.get("object-spilling-directory"))
        path = f"{pod.place}.rayStartParams.object-spilling-directory"
        if not directory:
            yield Violation(
                path,
                "is missing: objects would be spilt to Ray's log directory",
                "mount an emptyDir with a sizeLimit and name it here",
            )
            continue
        _, container = pod.ray
        mounts = {
            text_of(as_map(each).get("mountPath")): text_of(as_map(each).get("name"))
            for each in as_list(container.get("volumeMounts"))
        }
        volumes = {
            text_of(as_map(each).get("name")): as_map(each)
            for each in as_list(pod.spec.get("volumes"))
        }
        volume = volumes.get(mounts.get(directory, ""), {})
        if "sizeLimit" not in as_map(volume.get("emptyDir")):
            yield Violation(
                path,
                f"{directory} is not an emptyDir with a sizeLimit: spilling could fill the node's disk",
                "mount an emptyDir with a sizeLimit there",
            )


def volumes(document: Node) -> Problems:
    for pod in pods(document):
        lead = f"{pod.path}.spec" if pod.path else "spec"
        known = {text_of(as_map(each).get("name")) for each in as_list(pod.spec.get("volumes"))}
        for number, each in enumerate(as_list(pod.spec.get("volumes"))):
            empty = as_map(each).get("emptyDir")
            if empty is not None and "sizeLimit" not in as_map(empty):
                yield Violation(
                    f"{lead}.volumes.{number}", "has no limit", "write emptyDir: {sizeLimit: 5Gi}"
                )
        for where, container in pod.containers:
            for number, each in enumerate(as_list(container.get("volumeMounts"))):
                if text_of(as_map(each).get("name")) not in known:
                    yield Violation(
                        f"{where}.volumeMounts.{number}",
                        f"there is no volume {as_map(each).get('name')!r}: the operator would "
                        "silently drop the mount",
                        "add the volume, or correct the name",
                    )
            for kind, key in (("env", "name"), ("volumeMounts", "mountPath"), ("ports", "name")):
                counts = Counter(
                    value
                    for each in as_list(container.get(kind))
                    if isinstance(value := as_map(each).get(key), str)
                )
                for value in (value for value, count in counts.items() if count > 1):
                    yield Violation(f"{where}.{kind}", f"{value} is there twice", "keep one")


def fits(document: Node) -> Problems:
    """Check that the cluster has the resources that the entrypoint asks for."""
    found = ray_cluster(document)
    if found is None or document.get("kind") != "RayJob":
        return
    try:
        words = shlex.split(text_of(as_map(document.get("spec")).get("entrypoint")))
    except ValueError:
        yield Violation("spec.entrypoint", "is not a shell's line: a quote is open", "close it")
        return
    asked = dict(pairwise(words))
    workers, memory = number_of(asked.get("--workers")), _bytes(asked.get("--memory"))
    room = Decimal(0)
    for pod in pods(document):
        if pod.role != "worker":
            continue
        limits = as_map(as_map(pod.ray[1].get("resources")).get("limits"))
        gpus = sum(
            (number_of(n) or Decimal(0) for k, n in limits.items() if k.endswith("gpu")), Decimal(0)
        )
        each = max(gpus, Decimal(1))
        room += each * (number_of(pod.group.get("replicas")) or Decimal(0))
        node = number_of(pod.params.get("memory")) or number_of(limits.get("memory"))
        if memory is not None and node is not None and memory * each > node:
            yield Violation(
                f"{pod.place}.rayStartParams.memory",
                f"{node} bytes are less than {each} workers of --memory {asked['--memory']} take: "
                "the run would be refused",
                "write the manifest again from the plan, or give the pods more",
            )
    if workers is not None and workers > room:
        yield Violation(
            "spec.entrypoint",
            f"--workers {workers} are more than the {room} that the worker groups have room for",
            "raise replicas, or ask for fewer",
        )


# Options of the command that take no value.
_FLAGS = ("--impute-nonfinite", "--overwrite", "--quiet", "-q")


def stores(document: Node) -> Problems:
    """Check that the entrypoint's stores are on volumes that the pods mount."""
    if ray_cluster(document) is None or document.get("kind") != "RayJob":
        return
    try:
        words = shlex.split(text_of(as_map(document.get("spec")).get("entrypoint")))
    except ValueError:
        return  # run/fits reports it
    if "reconstruct" not in words:
        return
    for called, store in _stores(words[words.index("reconstruct") + 1 :]):
        path = store.removeprefix("file://")
        if "://" in path:
            continue
        for pod in ray_pods(document):
            # The configuration is read by the driver alone.
            if called == "config" and pod.role != "head":
                continue
            mount = _mount_of(path, pod)
            where = f"{pod.ray[0]}.volumeMounts"
            if mount is None:
                yield Violation(
                    where,
                    f"none holds {called} {store} of the entrypoint, so the {pod.role} does not "
                    "see it, or loses it with the pod",
                    "mount the volume that holds it, at the same path in head and workers; or "
                    "correct the path",
                )
            elif called == "out" and mount.get("readOnly") is True:
                yield Violation(
                    where,
                    f"out {store} of the entrypoint is on {mount.get('mountPath')}, which is "
                    "readOnly",
                    "write to another volume, or delete readOnly",
                )


def _stores(words: list[str]) -> Iterator[tuple[str, str]]:
    """Tilts, output and configuration of the command's words."""
    names = iter(("tilts", "out"))
    rest = iter(words)
    for word in rest:
        if word.startswith("--config="):
            yield "config", word.partition("=")[2]
        elif word == "--config":
            yield "config", next(rest, "")
        elif word in _FLAGS or (word.startswith("-") and "=" in word):
            continue
        elif word.startswith("-"):
            next(rest, "")
        elif (name := next(names, None)) is not None:
            yield name, word


def _mount_of(path: str, pod: Pod) -> Node | None:
    """The deepest mount that holds a path; None if it is scratch, which is lost with the pod."""
    scratch = {
        text_of(as_map(each).get("name"))
        for each in as_list(pod.spec.get("volumes"))
        if "emptyDir" in as_map(each)
    }
    where = posixpath.normpath(path)
    found: dict[str, Node] = {}
    for each in as_list(pod.ray[1].get("volumeMounts")):
        folder = posixpath.normpath(text_of(as_map(each).get("mountPath")))
        if where == folder or where.startswith(folder.rstrip("/") + "/"):
            found[folder] = as_map(each)
    if not found:
        return None
    mount = found[max(found, key=len)]
    return None if text_of(mount.get("name")) in scratch else mount


RULES = (
    Rule("run/requests", "requests are limits", requests_are_limits),
    Rule("run/gpus", "as many GPUs are announced as there are", gpus_agree),
    Rule("run/object-store", "the object store has a size, and fits", object_store),
    Rule("run/spill", "spilling goes to a disk of limited size", spilling),
    Rule("run/volumes", "scratch is limited, mounts have volumes, names are unique", volumes),
    Rule("run/fits", "what the entrypoint asks for is there", fits),
    Rule("run/stores", "what the entrypoint reads and writes is on mounted volumes", stores),
)
