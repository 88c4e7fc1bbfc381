#!/usr/bin/env bash
# PyGT 0.3.0: communities of one state, and the weights that its caller has given.
# Installs PyGT into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" PyGT==0.3.0
cd "$folder"
PYTHONPATH="$folder" python "$here/pygt_communities.py"
