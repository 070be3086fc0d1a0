#!/usr/bin/env bash
# Trains a restorer as the one that comes with the package (ddgm_dist/prior/shipped/).
#
# That one has 10000 steps of this training (--learning-rate 7e-4 --seed 1), begun from 5000 steps
# of its former version. Those had single calls only. This script begins from random weights, which has not been run to its end.
#
#   benchmarks/train_restorer.sh [DATA] [WEIGHTS.safetensors] [STEPS]
#
# DATA holds fibsem_medulla/train and fibsem_medulla/val (PNG sections), by default ../shared/data
# beside the repository. Sections 345 and up of train/ are kept out, for benchmarks. Interrupted
# and started again it goes on where it stopped. 15000 steps take about 75 minutes on 2 idle cores.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:-$root/../shared/data}
weights=${2:-fibsem.restorer.safetensors}
steps=${3:-15000}

if [[ ! -d $data/fibsem_medulla/train || ! -d $data/fibsem_medulla/val ]]; then
    echo "train_restorer.sh: no fibsem_medulla/train and fibsem_medulla/val in $data" >&2
    exit 2
fi
python=$root/.venv/bin/python
[[ -x $python ]] || python=python3

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m ddgm_dist train "$data/fibsem_medulla/train" "$weights" --kind restorer \
    --z-range 0:345 \
    --validation "$data/fibsem_medulla/val" \
    --planes yx,zx,zy --batch 6 --learning-rate 1e-3 --seed 0 --augment 0.3 \
    --steps "$steps" \
    --attribution "FlyEM project, Janelia Research Campus, HHMI (janelia-flyem/neuroproof_examples), CC BY 3.0 US; adult Drosophila medulla, FIB-SEM, 10 nm voxels"
