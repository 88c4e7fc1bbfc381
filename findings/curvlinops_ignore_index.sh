#!/usr/bin/env bash
# curvlinops 3.0.1: a loss with ignore_index, over batches in which unequal numbers of items count.
# Installs the package into a temporary folder beside the torch of the Python that is active; exits with 1 if the
# behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --no-deps --target "$folder" curvlinops-for-pytorch==3.0.1 \
    linear_operator==0.6.1 jaxtyping mpmath einops einconv backpack-for-pytorch
cd "$folder"
PYTHONPATH="$folder" python "$here/curvlinops_ignore_index.py"
