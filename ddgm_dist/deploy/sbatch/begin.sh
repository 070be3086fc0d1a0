# -- Parts that both kinds of job share ------------------------------------------------------------

home=$scratch/ddgm-$SLURM_JOB_ID  # on each node's own disk: Ray's files, and the token that opens it
export home RAY_TMPDIR=$home RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$home/token
export RAY_USAGE_STATS_ENABLED=0 SRUN_CPUS_PER_TASK=$node_cpus

each() { # runs something on every node
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 "$@"
}

prepare() { # what an earlier start left is removed; another user's directory makes mkdir fail
    umask 077
    rm -rf "$home" && mkdir "$home" && cat > "$RAY_AUTH_TOKEN_PATH"
}

address() { # of this node, as the others reach it
    if [[ $interface ]]; then
        ip -4 -o address show dev "$interface" | awk '{ sub("/.*", "", $4); print $4; exit }'
    else
        hostname -I | awk '{ print $1 }'
    fi
}

drive() { # on the first node, with Ray up; leaves its process and its success where the script looks
    run &
    echo $! > "$home/driver"
    wait $! && : > "$home/succeeded"
}

say() { echo "$(date '+%F %T')  $*"; }

state() { squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T; }

checkpointed() { # whether all that is under way was written in the last $1 seconds
    ddgm-dist status "$out" --json | python -c '
import json, sys
age = json.load(sys.stdin)["checkpoint_age"]
sys.exit(age is None or age > float(sys.argv[1]))' "$1"
}

leave() { # on SIGTERM
    trap '' TERM
    leaving=1
    if [[ $(state) != RUNNING ]]; then
        say "SIGTERM: the job was cancelled, or requeued by somebody else"
    else
        say "SIGTERM: time is nearly over; going on until a checkpoint is written, $patience s at most"
        local since=$SECONDS
        while [[ $step ]] && kill -0 "$step" 2> /dev/null && ((SECONDS - since < patience)); do
            if checkpointed $((SECONDS - since)); then
                say "a checkpoint is written"
                break
            fi
            sleep 1
        done
    fi
    if [[ -s $home/driver ]]; then
        kill -TERM "$(< "$home/driver")" 2> /dev/null || true
    fi
}

finish() { # whatever happens: end Ray's processes of this job, remove its directories
    trap - EXIT
    if [[ $nodes ]]; then
        kill "$nodes" 2> /dev/null || true
        wait "$nodes" || true
    fi
    each --overlap rm -rf "$home" || true
}

# -- Start -----------------------------------------------------------------------------------------

leaving='' step='' nodes=''
trap leave TERM
trap finish EXIT
export -f run drive prepare address
say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST: $out"
python -c 'import secrets; print(secrets.token_hex(32))' | each bash -c prepare
head=$(address)
