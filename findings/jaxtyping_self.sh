#!/usr/bin/env bash
# jaxtyping 0.3.11 with beartype 0.23.1: under jaxtyping's import hook a method that returns typing.Self cannot be
# imported or called, as each method is decorated by itself; beartype on the whole class accepts it.
# Installs both into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" jaxtyping==0.3.11 beartype==0.23.1
cd "$folder"
PYTHONPATH="$folder" python "$here/jaxtyping_self.py"
