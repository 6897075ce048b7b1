#!/usr/bin/env bash
# Calibrate on several nodes of a Slurm cluster, merge, and run:
#   examples/slurm/submit.sh CONFIG SHARDS [sbatch options, e.g. --partition=cpu --account=mine]
# from a folder that all nodes see. The statistics are those of one process, to the byte.
#
# Were some shards killed, hand in the same command again: what was finished is kept.
set -euo pipefail

config=${1:?usage: submit.sh CONFIG SHARDS [sbatch options]}
shards=${2:?usage: submit.sh CONFIG SHARDS [sbatch options]}
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CALIB_CONFIG=$config CALIB_SHARDS=$shards CALIB_PARTS=${CALIB_PARTS:-shards}
mkdir -p "$CALIB_PARTS"

array=$(sbatch --parsable --array="1-$shards" "$@" "$here/calibrate.sbatch")
array=${array%%;*} # on a cluster of clusters its name follows
# Only if every shard is there; else the second job is taken out of the queue.
run=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes "$@" "$here/run.sbatch")
echo "shards: job $array, merge and run: job ${run%%;*}"
