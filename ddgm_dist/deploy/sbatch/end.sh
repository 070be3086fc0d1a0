
while working; do sleep 1; done
trap '' TERM

# -- The store decides, and the exit status of this start's command --------------------------------

if [[ -e $home/succeeded ]] && ddgm-dist status "$out" --json | grep -q '"state": "complete"'; then
    say "complete: $out"
    exit 0
fi
if [[ -e $home/leaving ]]; then
    leaving=1
fi
again=''
# Only a start that had its full time, and was not preempted early, shows that time is too short.
if [[ $leaving ]] && ((SECONDS > limit / 2)) && [[ $(progress) == "$before" ]]; then
    say "nothing was added to $out in all the time of this start; another would end like it: give the job" \
        "a longer time, or checkpoint_every a smaller value" >&2
elif [[ $leaving ]]; then
    again="not complete: requeued, to go on from the checkpoint"
elif [[ ! -e $home/driver ]] && ((${SLURM_RESTART_COUNT:-0} + 1 < starts)); then
    # Ray always waits 30 s for a node to come up, which is too short on a busy one.
    again="Ray did not start: requeued, for another try"
fi
if [[ $again && $(state) == RUNNING ]]; then
    say "$again"
    finish
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # SLURM ends this script meanwhile
fi
say "not complete; the same script goes on from what is there: sbatch it again" >&2
exit 1
