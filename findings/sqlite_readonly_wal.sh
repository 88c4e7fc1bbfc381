#!/usr/bin/env bash
# SQLite 3.54.1 (in apsw 3.54.1.0): who only reads a database in WAL mode leaves a log and an index beside it.
# Installs the package into a temporary folder; exits with 1 if the behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --target "$folder" apsw==3.54.1.0
mkdir "$folder/data"
cd "$folder/data"
PYTHONPATH="$folder" python "$here/sqlite_readonly_wal.py"
