#!/usr/bin/env bash
# Trains the denoiser that comes with the package (ddgm_dist/prior/shipped/) once more.
#
#   benchmarks/train_prior.sh [DATA] [WEIGHTS.safetensors] [MINUTES]
#
# DATA holds fibsem_medulla/train and fibsem_medulla/val (PNG sections), by default ../shared/data
# beside the repository. Sections 345 and up of train/ are kept out, for benchmarks. Interrupted
# and started again it goes on where it stopped. The budget is of time, so a faster machine trains
# for more steps; 90 minutes on 2 cores is what the shipped weights took.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:-$root/../shared/data}
weights=${2:-fibsem.safetensors}
minutes=${3:-90}

if [[ ! -d $data/fibsem_medulla/train || ! -d $data/fibsem_medulla/val ]]; then
    echo "train_prior.sh: no fibsem_medulla/train and fibsem_medulla/val in $data" >&2
    exit 2
fi
python=$root/.venv/bin/python
[[ -x $python ]] || python=python3

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m ddgm_dist train "$data/fibsem_medulla/train" "$weights" \
    --z-range 0:345 \
    --validation "$data/fibsem_medulla/val" \
    --planes yx,zx,zy --patch 128 --batch 8 --learning-rate 1e-3 --seed 0 \
    --minutes "$minutes" \
    --attribution "FlyEM project, Janelia Research Campus, HHMI (janelia-flyem/neuroproof_examples), CC BY 3.0 US; adult Drosophila medulla, FIB-SEM, 10 nm voxels"
