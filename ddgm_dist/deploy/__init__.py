"""Manifests and batch scripts for a cluster, from a run's plan and a site's profile.

- ``site``: the site profile. ``site_errors``: its error messages.
- ``resources``: what a run needs, from its plan. ``planned``: the plan, of data or of a file.
- ``command``: the command line that the job runs.
- ``rayjob``: RayJob and RayCluster for KubeRay. ``pods``, ``containers``: their pod templates.
- ``comments``, ``yaml_text``: manifests as text with comments.
- ``data_pod``: a pod to copy data with.
- ``slurm``: batch scripts. ``slurm_checks``: checks of what goes into them.
- ``lint``: manifests checked against schemas, the operator's rules and our own.

Nothing here imports Ray, and nothing talks to a cluster: an operator applies the text.

>>> from ddgm_dist.core.units import GIB
>>> from ddgm_dist.deploy.command import Run
>>> from ddgm_dist.deploy.lint import lint
>>> from ddgm_dist.deploy.rayjob import rayjob
>>> from ddgm_dist.deploy.resources import Resources
>>> from ddgm_dist.deploy.site import parse_site
>>> site = parse_site({"kubernetes": {"image": "registry.example/ddgm-dist:0.1.0"}})
>>> needs = Resources(workers=4, tiles=64, cpus=4, memory=3 * GIB)
>>> run = Run("s3://bucket/tilts.zarr", "s3://bucket/volume.zarr")
>>> job = rayjob("tomo", run, needs, site.on_kubernetes())
>>> job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"]
4
>>> lint([job])
[]
"""
