#!/usr/bin/env bash
# SciPy 1.17.0: scipy.sparse.csgraph and sparse arrays with indices of 64 bits.
# Installs the packages into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" scipy==1.17.0 numpy==2.3.5
cd "$folder"
PYTHONPATH="$folder" python "$here/scipy_csgraph_indices.py"
