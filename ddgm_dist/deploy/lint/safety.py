"""Rules of our own about access: authentication, secrets, privileges, networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ddgm_dist.deploy.lint.finding import Rule, Violation
from ddgm_dist.deploy.lint.reading import Node, as_list, as_map, pods, ray_cluster, text_of

__all__ = ["RULES"]

Problems = Iterator[Violation]

_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|CREDENTIAL)", re.IGNORECASE)
# Names that match, but hold a path or a mode.
_NO_SECRET = re.compile(r"(_PATH|_FILE|_NAME|_MODE|_ENABLED|_ID)$", re.IGNORECASE)


def auth(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    path, cluster = found
    if "authOptions" not in cluster:
        yield Violation(
            f"{path}.authOptions",
            "is missing: the cluster has no token, and whoever reaches it runs any code on it",
            "write authOptions: {mode: token}",
        )
    # The operator's default, once there are options.
    elif as_map(cluster["authOptions"]).get("mode", "token") != "token":
        yield Violation(
            f"{path}.authOptions.mode",
            f"{as_map(cluster['authOptions'])['mode']!r} asks nobody for a token: whoever reaches "
            "the cluster runs any code on it",
            "write mode: token",
        )
    for pod in pods(document):
        for where, container in pod.containers:
            for number, each in enumerate(as_list(container.get("env"))):
                entry = as_map(each)
                if entry.get("name") == "RAY_AUTH_MODE" and entry.get("value") != "token":
                    yield Violation(
                        f"{where}.env.{number}",
                        f"RAY_AUTH_MODE: {entry.get('value')!r} overrides authOptions",
                        "delete it: the operator sets it from authOptions",
                    )


def exposed_head(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    path, cluster = found
    if not list(auth(document)):
        return
    head = as_map(cluster.get("headGroupSpec"))
    service = as_map(as_map(head.get("headService")).get("spec")).get("type", "ClusterIP")
    for where, kind in (
        (f"{path}.headGroupSpec.serviceType", head.get("serviceType", "ClusterIP")),
        (f"{path}.headGroupSpec.headService.spec.type", service),
    ):
        if kind not in ("", "ClusterIP"):
            yield Violation(
                where,
                f"{kind!r} lets the world in, and no token is asked for",
                "write ClusterIP and use kubectl port-forward, or switch authOptions to token",
            )
    if head.get("enableIngress") is True:
        yield Violation(
            f"{path}.headGroupSpec.enableIngress",
            "lets the world in, and no token is asked for",
            "delete it and use kubectl port-forward, or switch authOptions to token",
        )


def literal_secret(document: Node) -> Problems:
    if document.get("kind") == "Secret" and (document.get("data") or document.get("stringData")):
        yield Violation(
            "data" if document.get("data") else "stringData",
            "a secret in a manifest is a secret in every copy of it",
            "make it with kubectl create secret or your secret store, and refer to its name",
        )
    for pod in pods(document):
        for where, container in pod.containers:
            for number, each in enumerate(as_list(container.get("env"))):
                entry = as_map(each)
                called = text_of(entry.get("name"))
                secret = _SECRET.search(called) and not _NO_SECRET.search(called)
                if entry.get("value") and (secret or called == "AWS_ACCESS_KEY_ID"):
                    yield Violation(
                        f"{where}.env.{number}",
                        f"{called} is written out",
                        "refer to a Secret: valueFrom: {secretKeyRef: {name: ..., key: ...}}",
                    )


def security_context(document: Node) -> Problems:
    for pod in pods(document):
        whole = as_map(pod.spec.get("securityContext"))
        for where, container in pod.containers:
            own = as_map(container.get("securityContext"))
            yield from _rights(f"{where}.securityContext", own, whole)
    found = ray_cluster(document)
    if found is not None and found[1].get("enableInTreeAutoscaling") is True:
        # A container of the head that the operator adds.
        where = f"{found[0]}.autoscalerOptions.securityContext"
        own = as_map(as_map(found[1].get("autoscalerOptions")).get("securityContext"))
        head = next((pod.spec for pod in pods(document) if pod.role == "head"), {})
        yield from _rights(where, own, as_map(head.get("securityContext")))


def _rights(where: str, own: Node, whole: Node) -> Problems:
    """Check the privileges of a container; ``whole`` is the pod's context."""

    def either(key: str) -> Any:
        return own.get(key, whole.get(key))

    if either("runAsNonRoot") is not True or either("runAsUser") == 0:
        yield Violation(where, "lets the container run as root", "write runAsNonRoot: true")
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged") is True:
        yield Violation(
            where,
            "lets a process gain rights",
            "write allowPrivilegeEscalation: false, no privileged",
        )
    capabilities = as_map(own.get("capabilities"))
    if "ALL" not in as_list(capabilities.get("drop")) or as_list(capabilities.get("add")):
        yield Violation(where, "keeps capabilities", "write capabilities: {drop: [ALL]}, no add")
    if as_map(either("seccompProfile")).get("type") not in ("RuntimeDefault", "Localhost"):
        yield Violation(
            where, "has no seccomp profile", "write seccompProfile: {type: RuntimeDefault}"
        )
    if own.get("readOnlyRootFilesystem") is not True:
        yield Violation(
            where,
            "lets the image's files be written",
            "write readOnlyRootFilesystem: true, and mount an emptyDir at /tmp",
        )


def service_account(document: Node) -> Problems:
    found = ray_cluster(document)
    elastic = found is not None and found[1].get("enableInTreeAutoscaling") is True
    for pod in pods(document):
        if pod.role == "other" or (pod.role == "head" and elastic):
            continue  # the autoscaler asks the API server for pods
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield Violation(
                f"{pod.path}.spec.automountServiceAccountToken",
                f"the {pod.role} has a token for the API server, and does not need it",
                "write automountServiceAccountToken: false",
            )


def image(document: Node) -> Problems:
    for pod in pods(document):
        for where, container in pod.containers:
            called = text_of(container.get("image"))
            tag = called.rpartition("/")[2].partition("@")[0].partition(":")[2]
            if "@sha256:" not in called and tag in ("", "latest"):
                yield Violation(
                    f"{where}.image",
                    f"{called!r} may be another image tomorrow: head and workers must be the same",
                    "name a version, such as :0.1.0, or a digest",
                )
    # Nodes need the same version of Ray and of the code, which is pickled between them.
    first = ""
    for pod in pods(document):
        where, container = pod.ray
        called = text_of(container.get("image"))
        if pod.role == "other" or not called:
            continue
        first = first or called
        if called != first:
            yield Violation(
                f"{where}.image",
                f"{called!r} is not the head's {first!r}: head, workers and submitter must be the "
                "same",
                "write the same image everywhere",
            )


def host(document: Node) -> Problems:
    for pod in pods(document):
        lead = f"{pod.path}.spec" if pod.path else "spec"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key) is True:
                yield Violation(f"{lead}.{key}", "shares the node with the pod", "delete it")
        for number, each in enumerate(as_list(pod.spec.get("volumes"))):
            if "hostPath" in as_map(each):
                yield Violation(
                    f"{lead}.volumes.{number}",
                    "hands out a directory of the node",
                    "use a PersistentVolumeClaim or an emptyDir with a sizeLimit",
                )


def network_policy(document: Node) -> Problems:
    if document.get("kind") != "NetworkPolicy":
        return
    spec = as_map(document.get("spec"))
    for number, each in enumerate(as_list(spec.get("ingress"))):
        if not as_list(as_map(each).get("from")):
            yield Violation(
                f"spec.ingress.{number}",
                "lets everybody in, for it names no source",
                "name pods or namespaces under from",
            )
    for number, each in enumerate(as_list(spec.get("egress"))):
        if not as_list(as_map(each).get("to")):
            yield Violation(
                f"spec.egress.{number}",
                "lets traffic out to everywhere, for it names no destination",
                "name pods, namespaces or an ipBlock under to",
            )


RULES = (
    Rule("safe/auth", "a token is asked for", auth),
    Rule("safe/exposed-head", "a head without a token is not reachable from outside", exposed_head),
    Rule("safe/literal-secret", "secrets are referred to, never written out", literal_secret),
    Rule(
        "safe/security-context", "containers have no more rights than they need", security_context
    ),
    Rule("safe/service-account", "who does not ask the API server has no token", service_account),
    Rule("safe/image", "images are of a fixed version, and one for the whole run", image),
    Rule("safe/host", "pods share nothing of the node", host),
    Rule(
        "safe/network-policy",
        "policies name whom they let in and where they let out",
        network_policy,
    ),
)
