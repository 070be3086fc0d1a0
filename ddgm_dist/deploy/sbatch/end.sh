
while working; do sleep 1; done
trap '' TERM

# -- What counts is what the store says, and that this start's command ended well --------------------

if [[ -e $home/succeeded ]] && ddgm-dist status "$out" --json | grep -q '"state": "complete"'; then
    say "complete: $out"
    exit 0
fi
if [[ $leaving && $(state) == RUNNING ]]; then
    say "not complete: requeued, to go on from the checkpoint"
    finish
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # SLURM ends this script meanwhile
fi
say "not complete; the same script goes on from what is there: sbatch it again" >&2
exit 1
