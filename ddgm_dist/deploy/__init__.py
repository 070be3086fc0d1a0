"""From a run's plan and a site's profile to what a cluster is given: manifests and batch scripts.

``site``        what a site has and how it names it
``resources``   what a run needs, from its plan
``command``     the command line that the job runs
``slurm``       batch scripts

Nothing here imports Ray, and nothing talks to a cluster: text comes out, an operator applies it.
"""
