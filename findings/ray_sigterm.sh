#!/usr/bin/env bash
# Ray 2.60.0: ray.init() replaces the process's handler of SIGTERM, also one that the program has set itself before,
# and ray.shutdown() does not give it back; the handler of SIGINT stays. A job that schedulers end by SIGTERM then
# ends without what its own handler would have saved.
# Installs Ray into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" ray==2.60.0
cd "$folder"
PYTHONPATH="$folder" RAY_USAGE_STATS_ENABLED=0 python "$here/ray_sigterm.py"
