"""Planted mistakes: each is caught by its rule, at its place, with how to mend it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.deploy.lint import RULES, lint, lint_text
from ddgm_dist.deploy.rayjob import rayjob
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import NEEDS, RUN, site

JOB = rayjob("tomo", RUN, NEEDS, site())
SPEC, CLUSTER = "spec", "spec.rayClusterSpec"
HEAD, WORKERS = f"{CLUSTER}.headGroupSpec", f"{CLUSTER}.workerGroupSpecs.0"
HEAD_POD, WORKER_POD = f"{HEAD}.template.spec", f"{WORKERS}.template.spec"
HEAD_RAY, WORKER_RAY = f"{HEAD_POD}.containers.0", f"{WORKER_POD}.containers.0"
GONE = object()


def planted(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with values set, or taken away, at dotted paths; # is a dot in a key."""
    found = copy.deepcopy(document)
    for path, value in changes.items():
        *way, last = (key.replace("#", ".") for key in path.split("."))
        node: Any = found
        for key in way:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        key = int(last) if isinstance(node, list) else last
        if value is GONE:
            del node[key]
        elif isinstance(node, list) and key == len(node):
            node.append(value)
        else:
            node[key] = value
    return found


# Rule, where, what the finding says, what its mending says, the mistake.
MISTAKES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    # What the operator would refuse.
    ("operator/name", "metadata.name", "at most 47", "shorten", {"metadata.name": "t" * 48}),
    ("operator/name", "metadata.name", "starts with a letter", "", {"metadata.name": "1tomo"}),
    (
        "operator/submission-mode",
        f"{SPEC}.submissionMode",
        "'Nope' is none of",
        "K8sJobMode",
        {f"{SPEC}.submissionMode": "Nope"},
    ),
    (
        "operator/submission-mode",
        f"{SPEC}.submitterPodTemplate",
        "no submitter",
        "K8sJobMode",
        {f"{SPEC}.submissionMode": "SidecarMode"},
    ),
    (
        "operator/submission-mode",
        f"{SPEC}.backoffLimit",
        "not retried",
        "backoffLimit: 0",
        {f"{SPEC}.submissionMode": "InteractiveMode"},
    ),
    (
        "operator/ttl",
        f"{SPEC}.ttlSecondsAfterFinished",
        "no meaning without",
        "shutdownAfterJobFinishes: true",
        {f"{SPEC}.shutdownAfterJobFinishes": False},
    ),
    (
        "operator/ttl",
        f"{SPEC}.ttlSecondsAfterFinished",
        "negative",
        "600",
        {f"{SPEC}.ttlSecondsAfterFinished": -1},
    ),
    (
        "operator/deletion",
        f"{SPEC}.deletionStrategy.deletionRules",
        "excludes shutdownAfterJobFinishes",
        "delete one",
        {
            f"{SPEC}.deletionStrategy": {
                "deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED"}}]
            }
        },
    ),
    (
        "operator/deletion",
        f"{SPEC}.deletionStrategy",
        "needs deletionRules",
        "delete deletionStrategy",
        {f"{SPEC}.deletionStrategy": {"onSuccess": {"policy": "DeleteSelf"}}},
    ),
    (
        "operator/deletion",
        f"{SPEC}.deletionStrategy.deletionRules.0.condition",
        "exactly one",
        "FAILED",
        {f"{SPEC}.deletionStrategy": {"deletionRules": [{"policy": "DeleteSelf"}]}},
    ),
    (
        "operator/suspend",
        f"{SPEC}.suspend",
        "must give its cluster back",
        "shutdownAfterJobFinishes: true",
        {f"{SPEC}.suspend": True, f"{SPEC}.shutdownAfterJobFinishes": False},
    ),
    (
        "operator/cluster-selector",
        f"{SPEC}.backoffLimit",
        "clusterSelector excludes",
        "delete clusterSelector",
        {f"{SPEC}.clusterSelector": {"ray.io/cluster": "other"}},
    ),
    (
        "operator/cluster-selector",
        SPEC,
        "needs rayClusterSpec or clusterSelector",
        "rayClusterSpec",
        {CLUSTER: GONE},
    ),
    (
        "operator/deadlines",
        f"{SPEC}.activeDeadlineSeconds",
        "must be positive",
        "86400",
        {f"{SPEC}.activeDeadlineSeconds": 0},
    ),
    (
        "operator/runtime-env",
        f"{SPEC}.runtimeEnvYAML",
        "is not YAML",
        "correct",
        {f"{SPEC}.runtimeEnvYAML": "env_vars: ["},
    ),
    (
        "operator/managed-by",
        f"{SPEC}.managedBy",
        "is none of",
        "delete it",
        {f"{SPEC}.managedBy": "me"},
    ),
    (
        "operator/containers",
        f"{WORKER_POD}.containers",
        "needs a container",
        "add one",
        {f"{WORKER_POD}.containers": []},
    ),
    (
        "operator/autoscaler",
        f"{WORKER_POD}.restartPolicy",
        "autoscaler v2",
        "write Never",
        {f"{WORKER_POD}.restartPolicy": "Always"},
    ),
    (
        "operator/autoscaler",
        f"{CLUSTER}.autoscalerOptions.version",
        "RAY_enable_autoscaler_v2",
        "delete the variable",
        {f"{HEAD_RAY}.env.3": {"name": "RAY_enable_autoscaler_v2", "value": "1"}},
    ),
    (
        "operator/sidecar",
        f"{HEAD_POD}.restartPolicy",
        "not restarted",
        "write Never",
        {f"{SPEC}.submissionMode": "SidecarMode", f"{HEAD_POD}.restartPolicy": "Always"},
    ),
    (
        "operator/resources-twice",
        f"{WORKERS}.resources",
        "excludes memory in rayStartParams",
        "keep rayStartParams",
        {f"{WORKERS}.resources": {"CPU": "4"}},
    ),
    (
        "operator/token-version",
        f"{CLUSTER}.rayVersion",
        "2.52.0 or newer",
        "version of Ray in the image",
        {f"{CLUSTER}.rayVersion": "2.51.1"},
    ),
    (
        "operator/token-version",
        f"{CLUSTER}.rayVersion",
        "2.52.0 or newer",
        "version of Ray in the image",
        {f"{CLUSTER}.rayVersion": GONE},
    ),
    (
        "operator/token-version",
        f"{CLUSTER}.authOptions.enableK8sTokenAuth",
        "refused for a RayJob",
        "delete it",
        {f"{CLUSTER}.authOptions.enableK8sTokenAuth": True},
    ),
    (
        "operator/feature-gate",
        f"{CLUSTER}.networkPolicy",
        "RayClusterNetworkPolicy",
        "apply a NetworkPolicy",
        {f"{CLUSTER}.networkPolicy": {"mode": "DenyAll"}},
    ),
    (
        "operator/redis",
        f"{HEAD_RAY}.env.3",
        "RAY_REDIS_ADDRESS",
        "delete it",
        {f"{HEAD_RAY}.env.3": {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}},
    ),
    # What somebody could do who should not.
    (
        "safe/auth",
        f"{CLUSTER}.authOptions",
        "is missing: the cluster has no token",
        "authOptions: {mode: token}",
        {f"{CLUSTER}.authOptions": GONE},
    ),
    (
        "safe/auth",
        f"{CLUSTER}.authOptions.mode",
        "asks nobody for a token",
        "mode: token",
        {f"{CLUSTER}.authOptions.mode": "disabled"},
    ),
    (
        "safe/auth",
        f"{HEAD_RAY}.env.3",
        "overrides authOptions",
        "delete it",
        {f"{HEAD_RAY}.env.3": {"name": "RAY_AUTH_MODE", "value": "disabled"}},
    ),
    (
        "safe/exposed-head",
        f"{HEAD}.serviceType",
        "lets the world in",
        "ClusterIP",
        {f"{CLUSTER}.authOptions": GONE, f"{HEAD}.serviceType": "LoadBalancer"},
    ),
    (
        "safe/exposed-head",
        f"{HEAD}.headService.spec.type",
        "lets the world in",
        "ClusterIP",
        {
            f"{CLUSTER}.authOptions.mode": "disabled",
            f"{HEAD}.headService": {"spec": {"type": "NodePort"}},
        },
    ),
    (
        "safe/exposed-head",
        f"{HEAD}.enableIngress",
        "lets the world in",
        "port-forward",
        {f"{CLUSTER}.authOptions.mode": "disabled", f"{HEAD}.enableIngress": True},
    ),
    (
        "safe/literal-secret",
        f"{WORKER_RAY}.env.3",
        "AWS_SECRET_ACCESS_KEY is written out",
        "secretKeyRef",
        {f"{WORKER_RAY}.env.3": {"name": "AWS_SECRET_ACCESS_KEY", "value": "hunter2"}},
    ),
    (
        "safe/security-context",
        f"{WORKER_RAY}.securityContext",
        "as root",
        "runAsNonRoot: true",
        {f"{WORKER_POD}.securityContext.runAsNonRoot": GONE},
    ),
    (
        "safe/security-context",
        f"{WORKER_RAY}.securityContext",
        "gain rights",
        "allowPrivilegeEscalation: false",
        {f"{WORKER_RAY}.securityContext": GONE},
    ),
    (
        "safe/security-context",
        f"{HEAD_RAY}.securityContext",
        "capabilities",
        "drop: [ALL]",
        {f"{HEAD_RAY}.securityContext.capabilities.add": ["SYS_PTRACE"]},
    ),
    (
        "safe/security-context",
        f"{HEAD_RAY}.securityContext",
        "seccomp",
        "RuntimeDefault",
        {f"{HEAD_POD}.securityContext.seccompProfile": GONE},
    ),
    (
        "safe/security-context",
        f"{CLUSTER}.autoscalerOptions.securityContext",
        "files be written",
        "readOnlyRootFilesystem",
        {f"{CLUSTER}.autoscalerOptions.securityContext.readOnlyRootFilesystem": False},
    ),
    (
        "safe/service-account",
        f"{WORKER_POD}.automountServiceAccountToken",
        "token for the API server",
        "automountServiceAccountToken: false",
        {f"{WORKER_POD}.automountServiceAccountToken": GONE},
    ),
    (
        "safe/image",
        f"{WORKER_RAY}.image",
        "another image tomorrow",
        "digest",
        {f"{WORKER_RAY}.image": "registry.example:5000/ddgm-dist"},
    ),
    (
        "safe/image",
        f"{HEAD_RAY}.image",
        "another image tomorrow",
        "digest",
        {f"{HEAD_RAY}.image": "registry.example/ddgm-dist:latest"},
    ),
    (
        "safe/host",
        f"{WORKER_POD}.hostNetwork",
        "shares the node",
        "delete it",
        {f"{WORKER_POD}.hostNetwork": True},
    ),
    (
        "safe/host",
        f"{HEAD_POD}.volumes.4",
        "directory of the node",
        "PersistentVolumeClaim",
        {f"{HEAD_POD}.volumes.4": {"name": "etc", "hostPath": {"path": "/etc"}}},
    ),
    # What loses a run.
    (
        "run/driver-on-head",
        f"{SPEC}.entrypointNumCpus",
        "puts the driver on a worker",
        "delete entrypointNumCpus",
        {f"{SPEC}.entrypointNumCpus": 1},
    ),
    (
        "run/head-cpus",
        f"{HEAD}.rayStartParams.num-cpus",
        "beside the driver",
        'num-cpus: "0"',
        {f"{HEAD}.rayStartParams.num-cpus": GONE},
    ),
    (
        "run/head-stays",
        f"{HEAD_POD}.nodeSelector",
        "may be taken away",
        "nodes that stay",
        {f"{HEAD_POD}.nodeSelector": {"eks.amazonaws.com/capacityType": "SPOT"}},
    ),
    (
        "run/head-stays",
        f"{HEAD_POD}.tolerations.0",
        "onto spot nodes",
        "only workers",
        {f"{HEAD_POD}.tolerations": [{"key": "cloud.google.com/gke-spot", "operator": "Exists"}]},
    ),
    (
        "run/requests",
        f"{WORKER_RAY}.resources",
        "nvidia.com/gpu: requests None, limits '1'",
        "the same nvidia.com/gpu in both",
        {f"{WORKER_RAY}.resources.limits.nvidia#com/gpu": "1"},
    ),
    (
        "run/requests",
        f"{WORKER_RAY}.resources",
        "memory: requests '1Gi'",
        "the same memory",
        {f"{WORKER_RAY}.resources.requests.memory": "1Gi"},
    ),
    (
        "run/gpus",
        f"{WORKERS}.rayStartParams.num-gpus",
        "2 GPUs are announced, and the container has 0",
        "delete it",
        {f"{WORKERS}.rayStartParams.num-gpus": "2"},
    ),
    (
        "run/object-store",
        f"{WORKERS}.rayStartParams.object-store-memory",
        "30 %",
        "write bytes",
        {f"{WORKERS}.rayStartParams.object-store-memory": GONE},
    ),
    (
        "run/object-store",
        f"{HEAD}.rayStartParams.object-store-memory",
        "nothing is left",
        "a GiB more",
        {f"{HEAD}.rayStartParams.object-store-memory": str(9 * 2**30)},
    ),
    (
        "run/spill",
        f"{WORKERS}.rayStartParams.object-spilling-directory",
        "is missing",
        "sizeLimit",
        {f"{WORKERS}.rayStartParams.object-spilling-directory": GONE},
    ),
    (
        "run/spill",
        f"{WORKERS}.rayStartParams.object-spilling-directory",
        "fill the node's disk",
        "emptyDir",
        {f"{WORKERS}.rayStartParams.object-spilling-directory": "/data"},
    ),
    (
        "run/volumes",
        f"{HEAD_POD}.volumes.0",
        "has no limit",
        "sizeLimit",
        {f"{HEAD_POD}.volumes.0.emptyDir": {}},
    ),
    (
        "run/volumes",
        f"{WORKER_RAY}.volumeMounts.3",
        "there is no volume 'dat'",
        "correct the name",
        {f"{WORKER_RAY}.volumeMounts.3.name": "dat"},
    ),
    (
        "run/volumes",
        f"{WORKER_RAY}.env",
        "HOME is there twice",
        "keep one",
        {f"{WORKER_RAY}.env.3": {"name": "HOME", "value": "/"}},
    ),
    (
        "run/grace",
        f"{WORKER_POD}.terminationGracePeriodSeconds",
        "too short",
        "120 or more",
        {f"{WORKER_POD}.terminationGracePeriodSeconds": GONE},
    ),
    (
        "run/grace",
        f"{WORKER_RAY}.env.2",
        "killed after 120",
        "30 s between",
        {f"{WORKER_RAY}.env.2.value": "120"},
    ),
    (
        "run/grace",
        f"{WORKER_RAY}.env",
        "for 30 s only",
        "value 90",
        {f"{WORKER_RAY}.env.2": GONE},
    ),
    (
        "run/retry",
        f"{SPEC}.backoffLimit",
        "a head that is lost ends the job",
        "backoffLimit: 2",
        {f"{SPEC}.backoffLimit": GONE},
    ),
    (
        "run/retry",
        f"{SPEC}.backoffLimit",
        "not known to resume",
        "backoffLimit: 0",
        {f"{SPEC}.entrypoint": "python train.py"},
    ),
    (
        "run/retry",
        f"{SPEC}.entrypoint",
        "finished volume again",
        "delete --overwrite",
        {f"{SPEC}.entrypoint": f"{JOB['spec']['entrypoint']} --overwrite"},
    ),
    (
        "run/gives-back",
        f"{SPEC}.shutdownAfterJobFinishes",
        "keeps its nodes",
        "shutdownAfterJobFinishes: true",
        {f"{SPEC}.shutdownAfterJobFinishes": GONE, f"{SPEC}.ttlSecondsAfterFinished": GONE},
    ),
    (
        "run/gives-back",
        f"{SPEC}.activeDeadlineSeconds",
        "for ever",
        "604800",
        {f"{SPEC}.activeDeadlineSeconds": GONE},
    ),
    (
        "run/fits",
        f"{SPEC}.entrypoint",
        "more than the 4",
        "raise replicas",
        {f"{WORKERS}.replicas": 4},
    ),
    (
        "run/fits",
        f"{WORKERS}.rayStartParams.memory",
        "would be refused",
        "from the plan",
        {f"{WORKERS}.rayStartParams.memory": str(2**30)},
    ),
    (
        "run/stores",
        f"{HEAD_RAY}.volumeMounts",
        "none holds tilts /data/tilts.zarr",
        "correct the path",
        {f"{HEAD_RAY}.volumeMounts.3.mountPath": "/dta"},
    ),
    (
        "run/stores",
        f"{WORKER_RAY}.volumeMounts",
        "none holds out /data/volume.zarr",
        "mount the volume",
        {f"{WORKER_RAY}.volumeMounts.3.mountPath": "/dta"},
    ),
    (
        "run/stores",
        f"{WORKER_RAY}.volumeMounts",
        "is on /data, which is readOnly",
        "delete readOnly",
        {f"{WORKER_RAY}.volumeMounts.3.readOnly": True},
    ),
    (
        "run/stores",
        f"{HEAD_RAY}.volumeMounts",
        "none holds out /tmp/volume.zarr",
        "correct the path",
        {
            f"{SPEC}.entrypoint": "ddgm-dist reconstruct --impute-nonfinite "
            "/data/t.zarr /tmp/volume.zarr"
        },
    ),
    (
        "run/stores",
        f"{HEAD_RAY}.volumeMounts",
        "none holds config /etc/run.yaml",
        "correct the path",
        {f"{SPEC}.entrypoint": f"{JOB['spec']['entrypoint']} --config /etc/run.yaml"},
    ),
    (
        "run/dashboard",
        f"{HEAD}.rayStartParams.dashboard-host",
        "never submitted",
        "0.0.0.0",
        {f"{HEAD}.rayStartParams.dashboard-host": "127.0.0.1"},
    ),
    (
        "safe/image",
        f"{WORKER_RAY}.image",
        "is not the head's",
        "the same image everywhere",
        {f"{WORKER_RAY}.image": "registry.example/ddgm-dist:0.2.0"},
    ),
    (
        "safe/image",
        f"{SPEC}.submitterPodTemplate.spec.containers.0.image",
        "is not the head's",
        "the same image everywhere",
        {f"{SPEC}.submitterPodTemplate.spec.containers.0.image": "registry.example/other:1"},
    ),
    (
        "run/autoscaler",
        f"{CLUSTER}.autoscalerOptions.version",
        "is not v2",
        "version: v2",
        {f"{CLUSTER}.autoscalerOptions.version": "v1"},
    ),
    (
        "run/autoscaler",
        f"{CLUSTER}.enableInTreeAutoscaling",
        "as a whole",
        "enableInTreeAutoscaling: false",
        {"metadata.labels.kueue#x-k8s#io/queue-name": "tomo"},
    ),
    (
        "run/autoscaler",
        f"{WORKERS}.replicas",
        "between",
        "all three",
        {f"{WORKERS}.maxReplicas": 4},
    ),
    (
        "run/autoscaler",
        f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds",
        "stand idle",
        "as many seconds",
        {f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds": 60},
    ),
    (
        "run/probes",
        f"{WORKER_RAY}.livenessProbe",
        "is missing",
        "httpGet",
        {f"{WORKER_RAY}.livenessProbe": GONE},
    ),
]


def name_of(mistake: tuple[str, str, str, str, dict[str, Any]]) -> str:
    return f"{mistake[0]}: {next(iter(mistake[4]))}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=name_of)
def test_a_planted_mistake_is_caught_with_its_rule_and_how_to_mend_it(
    mistake: tuple[str, str, str, str, dict[str, Any]],
) -> None:
    rule, path, why, mend, changes = mistake
    wrong = planted(JOB, changes)
    found = [each for each in lint([wrong]) if (each.rule, each.path) == (rule, path)]
    assert any(why in each.why and mend in each.mend for each in found), lint([wrong])
    shown = str(found[0])
    assert rule in shown
    assert "RayJob/" in shown
    assert "fix: " in shown


def test_every_rule_has_been_seen_to_find_something() -> None:
    elsewhere = {"safe/network-policy"}  # below: not about a RayJob
    assert {rule.name for rule in RULES} == {mistake[0] for mistake in MISTAKES} | elsewhere


POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


@pytest.mark.parametrize("way", ["ingress", "egress"])
@pytest.mark.parametrize("rule", [{}, {"ports": [{"port": 8265}]}, {"from": [], "to": []}])
def test_a_policy_that_names_nobody_is_caught(way: str, rule: dict[str, Any]) -> None:
    assert lint([POLICY]) == []
    (found,) = lint([planted(POLICY, {f"spec.{way}": [rule]})])
    assert (found.rule, found.path) == ("safe/network-policy", f"spec.{way}.0")


def test_a_secret_in_a_manifest_is_caught() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": "YQ=="},
    }
    assert [each.rule for each in lint([secret])] == ["safe/literal-secret"]


def test_rules_of_pods_hold_for_other_kinds_too() -> None:
    pod = {"spec": {"hostPID": True, "containers": [{"name": "a", "image": "a:latest"}]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": pod},
    }
    cron = {
        "kind": "CronJob",
        "metadata": {"name": "j"},
        "spec": {"jobTemplate": {"spec": job["spec"]}},
    }
    for document in (job, cron, {"kind": "Pod", "metadata": {"name": "p"}, **pod}):
        rules = {each.rule for each in lint([document])}
        assert rules == {"safe/host", "safe/image", "safe/security-context"}


@pytest.mark.parametrize(
    "words",
    [
        "ddgm-dist reconstruct s3://b/t.zarr s3://b/v.zarr --address auto",
        "ddgm-dist reconstruct --workers 4 --set N=3 /data/t.zarr --quiet /data/v.zarr",
        "ddgm-dist reconstruct file:///data/t.zarr /data/v.zarr --config=/data/run.yaml",
    ],
)
def test_stores_that_are_there_are_found_where_the_command_has_them(words: str) -> None:
    assert lint([planted(JOB, {f"{SPEC}.entrypoint": words})]) == []


def test_a_token_is_enough_for_a_service_that_leaves_the_cluster() -> None:
    assert lint([planted(JOB, {f"{HEAD}.serviceType": "LoadBalancer"})]) == []


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN_PATH", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_the_place_of_a_secret_is_no_secret(name: str) -> None:
    entry = {"name": name, "value": "/var/run/token"}
    assert lint([planted(JOB, {f"{HEAD_RAY}.env.3": entry})]) == []


@pytest.mark.parametrize("text", ["", "---", "a: [", "- a", "5", "!!python/name:os.system x"])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        lint_text(text)


def _places(node: Any, path: str = "") -> list[str]:
    inner = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    found = []
    for key, value in inner:
        here = f"{path}.{str(key).replace('.', '#')}".lstrip(".")
        found += [here, *_places(value, here)]
    return found


odd = st.sampled_from(
    [None, True, -1, 10**400, 1.5, "", "x", "1e999", "é", [], [[]], {}, {1: 2}, [{"name": []}]]
)


@given(st.lists(st.tuples(st.sampled_from(_places(JOB)), odd), min_size=1, max_size=3))
@settings(max_examples=400)
def test_no_document_is_too_odd_to_be_linted(changes: list[tuple[str, Any]]) -> None:
    document = JOB
    for path, value in changes:
        try:
            document = planted(document, {path: value})
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            continue  # the place is gone with an earlier change
    for each in lint([document]):
        assert each.path
        assert each.why
        assert each.mend
