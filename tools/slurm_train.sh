#!/usr/bin/env bash
# [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5] tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [flags of tools/train.py]
set -euo pipefail
usage='usage: slurm_train.sh PARTITION JOB CONFIG WORK_DIR [flags]'
partition=${1:?$usage}; job=${2:?$usage}; config=${3:?$usage}; work_dir=${4:?$usage}
per_node=${GPUS_PER_NODE:-8}
# shellcheck disable=SC2086
srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="${GPUS:-8}" --ntasks-per-node="$per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  python -u "$(dirname "$0")/train.py" "$config" --work-dir "$work_dir" --launcher slurm "${@:5}"
