
# Ray on all nodes, the command on the first. symmetric-run stops all of the user's Ray on a node, so
# nodes must not be shared. It may exit with 0 when Ray did not start, so its status is not used.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=$wait_seconds
"${each[@]}" --quiet --kill-on-bad-exit=1 bash -c 'serve "$@"' serve \
    ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$node_cpus" --num-gpus="$node_gpus" --memory="$node_memory" \
    --object-store-memory="$object_store" --include-log-monitor=false -- bash -c drive < /dev/null &
ray=$! symmetric=1
