"""Whether there is room for what a run takes: memory, GPUs, disks, nodes. Rules of our own."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from pydantic import ByteSize, TypeAdapter, ValidationError

from ddgm_dist.deploy.lint.finding import Problem, Rule
from ddgm_dist.deploy.lint.reading import (
    Node,
    as_list,
    as_map,
    number_of,
    pods,
    ray_cluster,
    ray_pods,
    text_of,
)

__all__ = ["RULES"]

Problems = Iterator[Problem]


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
                yield Problem(
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
            yield Problem(
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
            yield Problem(
                path,
                "is missing: Ray takes 30 % of the memory, which the plan gives to workers",
                'write bytes, such as "2147483648"',
            )
        elif limit is not None and store + tasks >= limit:
            yield Problem(
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
            yield Problem(
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
            yield Problem(
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
                yield Problem(
                    f"{lead}.volumes.{number}", "has no limit", "write emptyDir: {sizeLimit: 5Gi}"
                )
        for where, container in pod.containers:
            for number, each in enumerate(as_list(container.get("volumeMounts"))):
                if text_of(as_map(each).get("name")) not in known:
                    yield Problem(
                        f"{where}.volumeMounts.{number}",
                        f"there is no volume {as_map(each).get('name')!r}: the operator would drop "
                        "the mount without a word",
                        "add the volume, or correct the name",
                    )
            for kind, key in (("env", "name"), ("volumeMounts", "mountPath"), ("ports", "name")):
                counts = Counter(
                    value
                    for each in as_list(container.get(kind))
                    if isinstance(value := as_map(each).get(key), str)
                )
                for value in (value for value, count in counts.items() if count > 1):
                    yield Problem(f"{where}.{kind}", f"{value} is there twice", "keep one")


def fits(document: Node) -> Problems:
    """What the entrypoint asks of the cluster is there."""
    found = ray_cluster(document)
    if found is None or document.get("kind") != "RayJob":
        return
    try:
        words = shlex.split(text_of(as_map(document.get("spec")).get("entrypoint")))
    except ValueError:
        yield Problem("spec.entrypoint", "is not a shell's line: a quote is open", "close it")
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
            yield Problem(
                f"{pod.place}.rayStartParams.memory",
                f"{node} bytes are less than {each} workers of --memory {asked['--memory']} take: "
                "the run would be refused",
                "write the manifest again from the plan, or give the pods more",
            )
    if workers is not None and workers > room:
        yield Problem(
            "spec.entrypoint",
            f"--workers {workers} are more than the {room} that the worker groups have room for",
            "raise replicas, or ask for fewer",
        )


RULES = (
    Rule("run/requests", "requests are limits", requests_are_limits),
    Rule("run/gpus", "as many GPUs are announced as there are", gpus_agree),
    Rule("run/object-store", "the object store has a size, and fits", object_store),
    Rule("run/spill", "spilling goes to a disk of limited size", spilling),
    Rule("run/volumes", "scratch is limited, mounts have volumes, names are unique", volumes),
    Rule("run/fits", "what the entrypoint asks for is there", fits),
)
