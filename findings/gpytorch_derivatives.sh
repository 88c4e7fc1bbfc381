#!/usr/bin/env bash
# gpytorch 1.15: second derivatives by a length scale without ARD; a likelihood that is random above 800 points.
# Installs the package into a temporary folder beside the torch of the Python that is active; exits with 1 if the
# behaviour has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pip install -q --no-deps --target "$folder" gpytorch==1.15 linear_operator==0.6.1 jaxtyping mpmath
cd "$folder"
PYTHONPATH="$folder" python "$here/gpytorch_derivatives.py"
