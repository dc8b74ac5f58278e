#!/bin/sh
# Run a stage on a Ray cluster: the code of this folder goes there, the data is there already.
#   ADDRESS=http://head:8265 SHARED=/mnt/red-villm pipelines/recipes/ray/job.sh extract \
#       --dataset activitynet --base llava-1.5-7b
# Everything after the script's name goes to `python -m pipelines`. Exit code 0: the job succeeded.
set -eu
: "${ADDRESS:?the dashboard of the cluster, such as http://head:8265}"
: "${SHARED:?the folder that all nodes see under this path; relative paths begin there}"
cd "$(dirname "$0")/../../.."
# What .gitignore names stays here, too: Ray reads it.
exec ray job submit --address "$ADDRESS" --working-dir . --runtime-env-json '{
    "excludes": ["/.venv", "/.git", "/data", "/runs", "/store", "/tests", ".*_cache", "__pycache__"],
    "env_vars": {"RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
}' -- sh -c "cd '$SHARED' && exec python -m pipelines \"\$@\"" pipelines "$@"
