
# A block of ports by the job's number; another block if any port is in use on any node.
for ((try = 0; try < 8; try++)); do
    first=$((port + (SLURM_JOB_ID + 7 * try) % blocks * block))
    between="sport >= :$first and sport < :$((first + block))"
    if "${each[@]}" bash -c '[[ -z $(ss -Hltn "$1") ]]' ports "$between" 2> /dev/null; then
        break
    fi
done
if ((try == 8)); then
    say "no $block ports from $port on are free on all nodes" >&2
    exit 1
fi
port=$first
export port

node() {
    local where=(--address="$head:$port")
    if ((SLURM_NODEID == 0)); then
        where=(--head --port="$port" --include-dashboard=false)
        where+=(--ray-client-server-port=$((port + 1)))
    else
        until (: < "/dev/tcp/$head/$port") 2> /dev/null; do sleep 1; done
    fi
    serve ray start --block "${where[@]}" --node-ip-address="$(address)" \
        --node-manager-port=$((port + 2)) --object-manager-port=$((port + 3)) \
        --runtime-env-agent-port=$((port + 4)) --metrics-export-port=$((port + 5)) \
        --dashboard-agent-listen-port=$((port + 6)) --dashboard-agent-grpc-port=$((port + 7)) \
        --min-worker-port=$((port + 10)) --max-worker-port=$((port + block - 1)) \
        --num-cpus="$node_cpus" --num-gpus="$node_gpus" --memory="$node_memory" \
        --object-store-memory="$object_store" --include-log-monitor=false
}

gather() { # waits for all nodes, in one process, to leave the CPUs to the nodes that start
    timeout "$wait_seconds" python -c '
import sys, time, ray
while not ray.is_initialized():
    try:
        ray.init(sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
    except Exception:
        time.sleep(1)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)' "$head:$port" "$SLURM_JOB_NUM_NODES" 2> /dev/null
}

# Ray in a step of this job, so that SLURM ends exactly its processes with the step.
export -f node
"${each[@]}" --quiet --kill-on-bad-exit=1 bash -c node < /dev/null &
ray=$!
until (: < "/dev/tcp/$head/$port") 2> /dev/null || ! working; do sleep 1; done
gather &
while working && kill -0 $! 2> /dev/null; do sleep 1; done
if ! working || ! wait $!; then
    say "Ray did not come up on all nodes" >&2
    : > "$home/ended"
fi
if [[ ! -e $home/ended ]]; then
    say "Ray is up on $SLURM_JOB_NUM_NODES nodes, ports $port to $((port + block - 1)), head $head"
    drive &
fi
