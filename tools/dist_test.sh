#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]
set -euo pipefail
usage='usage: dist_test.sh CONFIG CHECKPOINT GPUS [flags]'
config=${1:?$usage}; checkpoint=${2:?$usage}; gpus=${3:?$usage}
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" --nproc_per_node="$gpus" "$(dirname "$0")/test.py" "$config" "$checkpoint" \
  --launcher pytorch "${@:4}"
