#!/usr/bin/env bash
# jaxtyping 0.3.11: functions inside functions, below its import hook.
# Installs the packages into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" jaxtyping==0.3.11 beartype==0.22.9 numpy==2.3.5
cd "$folder"
PYTHONPATH="$folder" python "$here/jaxtyping_nested_functions.py"
