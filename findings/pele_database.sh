#!/usr/bin/env bash
# pele 0.1.2: its database merges minima by their energies alone, unless it is told how to compare them.
# Installs the package into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" --only-binary :all: pele==0.1.2
cd "$folder"
PYTHONPATH="$folder" python "$here/pele_database.py"
