#!/usr/bin/env bash
# PyTorch 2.13.0: a view of one number is contiguous, and cannot be viewed as bytes.
# Installs torch into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" torch==2.13.0 numpy==2.3.5
cd "$folder"
PYTHONPATH="$folder" python "$here/torch_lone_number.py"
