"""From a run's plan and a site's profile to what a cluster is given: manifests and batch scripts.

``site``        what a site has and how it names it
``resources``   what a run needs, from its plan; ``planned``: the plan, of data or of a file
``command``     the command line that the job runs
``rayjob``      RayJob and RayCluster for KubeRay, of ``pods``; as text with ``comments`` (``yaml_text``)
``data_pod``    a pod to copy data with
``slurm``       batch scripts
``start``       how KubeRay starts a manifest's containers: commands and environment as data
``lint``        manifests held against schemas, the operator's rules and ours

Nothing here imports Ray, and nothing talks to a cluster: text comes out, an operator applies it.

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
