"""The site profile: the resources of a cluster and their names, once per site, in a YAML file.

It holds nothing of a run, and no secret: only names of secrets that the cluster keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ddgm_dist.core.units import GIB, MIB, parse_bytes
from ddgm_dist.deploy.site_errors import input_error
from ddgm_dist.errors import InputError
from ddgm_dist.readers import strict_yaml

__all__ = [
    "Kubernetes",
    "NodeGroup",
    "SiteProfile",
    "Slurm",
    "Toleration",
    "Volume",
    "load_site",
    "parse_site",
]

# Patterns restrict what is written into YAML and shell scripts to valid names.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
]
LabelValue = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$", max_length=63)
]
Image = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-zA-Z0-9._/:-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$",
        description="container image, with a tag or a digest",
    ),
]
AbsolutePath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]*$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,:&|*+=\[\]-]*$")]


def _as_bytes(value: object) -> object:
    """Accept sizes as Kubernetes writes them, ``512Mi`` and ``32Gi``, beside ``512MiB``."""
    return parse_bytes(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_as_bytes)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Toleration(_Section):
    """A taint of nodes that pods tolerate."""

    key: LabelKey = Field(description="key of the taint")
    value: LabelValue | None = Field(None, description="value of the taint; any if null")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "NoSchedule", description="effect of the taint"
    )


class NodeGroup(_Section):
    """Nodes of one kind, and the resources of a pod that fills one."""

    cpus: int = Field(4, ge=1, description="CPUs of a pod")
    memory: Size | None = Field(
        None, description="memory of a pod, such as 32GiB; what the run needs if null"
    )
    gpus: int = Field(0, ge=0, le=16, description="GPUs of a pod; it runs one worker on each")
    gpu_resource: LabelKey = Field("nvidia.com/gpu", description="resource name of a GPU")
    gpu_memory: Size | None = Field(
        None, description="memory of one GPU; a run that needs more is refused"
    )
    node_selector: dict[LabelKey, LabelValue] = Field({}, description="labels of these nodes")
    tolerations: tuple[Toleration, ...] = Field((), description="taints of these nodes")
    spot: bool = Field(False, description="true if nodes may be taken away at short notice")


class Volume(_Section):
    """A volume with data: an existing claim, which all pods see at the same path."""

    claim: Name = Field(description="name of a PersistentVolumeClaim (ReadWriteMany)")
    path: AbsolutePath = Field("/data", description="path in the pods")
    read_only: bool = Field(False, description="true if it holds inputs only")


class Kubernetes(_Section):
    """A Kubernetes cluster that runs the KubeRay operator (1.7)."""

    image: Image = Field(description="container image of this package, with a tag or a digest")
    ray_version: str = Field(
        "2.60.0", pattern=r"^\d+\.\d+\.\d+$", description="version of Ray in that image"
    )
    namespace: Name = Field("ddgm", description="namespace of the job")
    pull_secrets: tuple[Name, ...] = Field((), description="secrets for the image's registry")
    service_account: Name | None = Field(
        None,
        description="service account of worker and submitter pods; the namespace's default if null",
    )
    priority_class: Name | None = Field(None, description="priority class of all pods")
    uid: int = Field(1000, ge=1, description="user that containers run as; not root")
    gid: int = Field(1000, ge=1, description="group that containers run as and volumes belong to")
    head: NodeGroup = Field(
        NodeGroup.model_validate({"cpus": 2, "memory": "8GiB"}),
        description="the head and the driver: nodes that stay",
    )
    workers: NodeGroup = Field(NodeGroup.model_validate({}), description="nodes that compute")
    max_workers: int = Field(8, ge=1, description="workers of a run that does not say how many")
    object_store: Size = Field(2 * GIB, ge=80 * MIB, description="Ray's object store on each node")
    spill: Size = Field(
        20 * GIB, ge=MIB, description="disk that a node's object store may spill to"
    )
    scratch: Size = Field(5 * GIB, ge=MIB, description="disk for Ray's logs and temporary files")
    volumes: tuple[Volume, ...] = Field((), description="volumes with the data")
    config_map: Name | None = Field(
        None, description="ConfigMap with the run's configuration, seen as files in /etc/ddgm-dist"
    )
    s3_secret: Name | None = Field(
        None, description="Secret whose keys become environment variables: credentials of a bucket"
    )
    s3_endpoint: str | None = Field(
        None, pattern=r"^https?://[A-Za-z0-9._:\[\]-]+/?$", description="S3 server, if not Amazon's"
    )
    s3_region: Word | None = Field(None, description="region of the bucket")
    auth: Literal["token", "disabled"] = Field(
        "token", description="who may submit code to the cluster; disabled: anybody who reaches it"
    )
    head_service: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        "ClusterIP", description="service of the head; the others leave the cluster"
    )
    queue: Literal["none", "kueue", "volcano"] = Field(
        "none", description="who admits the job as a whole"
    )
    queue_name: Name | None = Field(None, description="name of that queue")
    backoff_limit: int = Field(2, ge=0, le=20, description="clusters tried after the first fails")
    deadline_seconds: int = Field(7 * 86400, ge=60, description="longest time of the job")
    start_deadline_seconds: int = Field(
        3600, ge=60, description="longest time that the job waits for nodes"
    )
    ttl_seconds: int = Field(
        300, ge=1, description="time that the cluster stays after the run, to read its logs"
    )
    grace_seconds: int = Field(
        120, ge=30, description="time of a pod to end, in which checkpoints are written"
    )
    drain_seconds: int = Field(
        90,
        ge=1,
        description="time of it in which Ray waits for work to end; less than grace_seconds",
    )


class Slurm(_Section):
    """A SLURM cluster with a file system that all nodes share."""

    partition: Word | None = Field(None, description="partition; the cluster's default if null")
    account: Word | None = Field(None, description="account to charge")
    qos: Word | None = Field(None, description="quality of service")
    reservation: Word | None = Field(None, description="reservation to run in")
    constraint: Word | None = Field(None, description="features that nodes must have")
    time: str = Field(
        "24:00:00",
        pattern=r"^(\d+-)?\d{1,3}(:\d{2}){0,2}$",
        description='limit of one allocation, in quotes: "24:00:00"; a requeued job has it again',
    )
    exclusive: bool = Field(True, description="nodes are not shared with other jobs")
    cpus_per_node: int = Field(16, ge=1, description="CPUs of a node that the job takes")
    memory_per_node: Size | None = Field(
        None, description="memory of a node that the job takes; what the run needs if null"
    )
    gpus_per_node: int = Field(0, ge=0, le=16, description="GPUs of a node; one worker on each")
    gpu_type: Word | None = Field(None, description="type of GPU, as in --gres=gpu:TYPE:N")
    gpu_memory: Size | None = Field(
        None, description="memory of one GPU; a run that needs more is refused"
    )
    max_workers: int = Field(8, ge=1, description="workers of a run that does not say how many")
    object_store: Size = Field(2 * GIB, ge=80 * MIB, description="Ray's object store on each node")
    setup: tuple[str, ...] = Field(
        (), description="shell lines before anything else: modules, the environment"
    )
    scratch: AbsolutePath = Field(
        "/tmp", description="directory on each node's own disk; short, for socket paths"
    )
    logs: str = Field(
        "ddgm-%j.log", pattern=r"^[A-Za-z0-9._/%-]+$", description="file of the job's output"
    )
    interface: Word | None = Field(None, description="network interface between nodes")
    port: int = Field(6379, ge=1024, le=65000, description="first of the ports that Ray takes")
    signal_seconds: int = Field(120, ge=90, le=3600, description="time from SIGTERM to the limit")
    wait_seconds: int = Field(300, ge=30, description="longest time of nodes to come up")
    starts: int = Field(3, ge=1, le=10, description="tries when Ray does not come up on all nodes")


class SiteProfile(_Section):
    """A site with a Kubernetes cluster, a SLURM cluster, or both."""

    name: Name = Field("site", description="name of the site")
    kubernetes: Kubernetes | None = Field(None, description="its Kubernetes cluster")
    slurm: Slurm | None = Field(None, description="its SLURM cluster")

    def on_kubernetes(self) -> Kubernetes:
        """The section ``kubernetes`` of the profile.

        Raises
        ------
        InputError
            If the profile does not have it.
        """
        if self.kubernetes is None:
            raise InputError(
                "site",
                self.name,
                "has no section kubernetes",
                "write at least `kubernetes: {image: REGISTRY/ddgm-dist:TAG}`",
            )
        return self.kubernetes

    def on_slurm(self) -> Slurm:
        """The section ``slurm`` of the profile; its defaults if the profile is empty.

        Raises
        ------
        InputError
            If the profile has only the section kubernetes.
        """
        if self.slurm is None and self.kubernetes is not None:
            raise InputError(
                "site",
                self.name,
                "has no section slurm, only kubernetes",
                "name the profile of the SLURM cluster, or write `slurm: {}` for the defaults",
            )
        return self.slurm or Slurm.model_validate({})


def load_site(path: str | Path) -> SiteProfile:
    """Read a profile.

    Raises
    ------
    InputError
        If the file is missing, is not YAML, or holds a key or a value that is not valid.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("site", str(path), "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("site", str(path), f"cannot be read ({error})") from error
    try:
        values = strict_yaml.load(text)
    except strict_yaml.YamlError as error:
        raise InputError("site", str(path), str(error)) from error
    if not isinstance(values, dict):
        raise InputError(
            "site", str(path), "is not a mapping", "start with the line `kubernetes:` or `slurm:`"
        )
    return parse_site(values)


def parse_site(values: Mapping[str, Any]) -> SiteProfile:
    """Validate a profile's values.

    Raises
    ------
    InputError
        If a key is unknown (the message names the nearest valid one) or a value is out of bounds.
    """
    try:
        return SiteProfile.model_validate(dict(values))
    except ValidationError as error:
        raise input_error(error, SiteProfile) from error
