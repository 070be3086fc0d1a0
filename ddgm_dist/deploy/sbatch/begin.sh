home=$scratch/ddgm-$SLURM_JOB_ID  # on each node's own disk: Ray's files, and its token
export home RAY_TMPDIR=$home RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$home/token
export RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
export RAY_agent_register_timeout_ms=120000 # the default of 15 s is too short on a busy node
export SRUN_CPUS_PER_TASK=$node_cpus

# Run a command on every node.
each=(srun --export=ALL --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)

prepare() { # removes files of an earlier start; mkdir fails if another user has the directory
    umask 077
    rm -rf "$home" && mkdir "$home" && cat > "$RAY_AUTH_TOKEN_PATH"
}

address() { # prints the address of this node for the others
    if [[ $interface ]]; then
        ip -4 -o address show dev "$interface" | awk '{ sub("/.*", "", $4); print $4; exit }'
    else
        hostname -I | awk '{ print $1 }'
    fi
}

serve() { # runs Ray on one node until it or the step ends, then cleans up
    local it stopped='' tries=1
    ((SLURM_NODEID == 0)) || tries=3 # a node that is slow to start, or crashes, joins again
    # Preemption with a grace time signals the steps, not the script.
    trap 'stopped=1; : > "$home/leaving"; kill "$it" 2> /dev/null' TERM
    while ((tries-- > 0)); do
        "$@" > "$home/ray.log" 2>&1 &
        it=$!
        wait "$it" 2> /dev/null
        if [[ $stopped ]]; then
            wait "$it" 2> /dev/null
        elif [[ ! -e $home/ended ]]; then
            echo "$(hostname): Ray ended by itself: $(tail -n 20 "$home/ray.log" | cut -c -300)"
            pkill -KILL -f "$home/ray/session_"
            continue
        fi
        break
    done
    if ((SLURM_NODEID == 0)); then
        : > "$home/stopped" # the script still needs the files of this node
        [[ $stopped || -e $home/ended ]] # else the step fails and ends the others, which cannot work without the head
    else
        tidy
    fi
}

tidy() { # removes all processes and files of this job from one node
    pkill -KILL -f "$home/ray/session_" || true
    rm -rf "$home"
}

drive() { # runs the command on the first node once Ray is up; files in $home record its result
    if [[ ! -e $home/leaving ]]; then
        export RAY_ADDRESS=$head:$port # other jobs may run Ray on the node
        run >> "$log" 2>&1 &
        echo $! > "$home/driver"
        wait $! && : > "$home/succeeded"
    fi
    : > "$home/ended"
}

say() { echo "$(date '+%F %T')  $*"; }

state() { # prints the state of this job; retried, for the controller may be busy
    local found=''
    for _ in 1 2 3 4 5; do
        if found=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T 2> /dev/null) && [[ $found ]]; then
            break
        fi
        sleep 1
    done
    echo "${found:-RUNNING}"
}

checkpointed() { # succeeds if all unfinished tiles were written in the last $1 seconds
    ddgm-dist status "$out" --json | python -c '
import json, sys
age = json.load(sys.stdin)["checkpoint_age"]
sys.exit(age is None or age > float(sys.argv[1]))' "$1"
}

progress() { # prints the finished fraction of the volume
    ddgm-dist status "$out" --json 2> /dev/null | python -c '
import json, sys
print(json.load(sys.stdin)["fraction"])' 2> /dev/null || echo 0
}

leave() { # handles SIGTERM
    trap '' TERM
    leaving=1
    : > "$home/leaving"
    if [[ $(state) != RUNNING ]]; then
        say "SIGTERM: the job was cancelled, or requeued by somebody else"
    else
        say "SIGTERM: time is nearly over; going on until a checkpoint is written, $grace s at most"
        local since=$SECONDS
        while working && [[ -e $home/driver ]] && ((SECONDS - since < grace)); do
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

working() { [[ $ray && ! -e $home/ended ]] && kill -0 "$ray" 2> /dev/null; }

finish() { # runs at exit
    trap - EXIT
    if [[ $ray ]]; then
        for ((i = 0; i < 20; i++)); do # symmetric-run stops Ray on the first node
            if [[ ! $symmetric || -e $home/stopped ]] || ! kill -0 "$ray" 2> /dev/null; then
                break
            fi
            sleep 1
        done
        kill "$ray" 2> /dev/null || true
        wait "$ray" || true # SLURM logs this step as cancelled
    fi
    "${each[@]}" --overlap --quiet bash -c tidy 2> /dev/null || tidy
}

# -- Start -----------------------------------------------------------------------------------------

leaving='' ray='' symmetric=''
if ! command -v ddgm-dist > /dev/null; then
    say "there is no ddgm-dist here: name what makes it available under setup: in the site profile" >&2
    exit 1
fi
before=$(progress)
log=$(readlink -f "/proc/$$/fd/1")
export log
trap leave TERM
trap finish EXIT
export -f run drive serve tidy prepare address
say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST: $out"
python -c 'import secrets; print(secrets.token_hex(32))' | "${each[@]}" bash -c prepare
head=$(address)
export head
