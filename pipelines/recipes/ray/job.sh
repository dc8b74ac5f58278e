#!/bin/sh
# Run a stage on a Ray cluster as a job: this folder's code goes there, the data is there already.
#   ADDRESS=http://head:8265 SHARED=/mnt/red-villm pipelines/recipes/ray/job.sh extract --dataset activitynet
# See README.md beside this file. Exit code 0: the job succeeded.
set -eu
: "${ADDRESS:?the address of the dashboard, http://head:8265}"
: "${SHARED:?the folder that every node sees under this path; relative paths are relative to it}"
cd "$(dirname "$0")/../../.."
exec "${RAY:-ray}" job submit --address "$ADDRESS" --working-dir . \
    --runtime-env-json '{"excludes": ["/.venv", "/.git", "/data", "/runs", "/store", "/benchmarks/results", ".*_cache", "__pycache__"], "env_vars": {"RAY_USAGE_STATS_ENABLED": "0"}}' \
    -- sh -c "cd '$SHARED' && exec python -m pipelines \"\$@\"" job "$@"
