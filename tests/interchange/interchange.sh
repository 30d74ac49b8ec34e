#!/usr/bin/env bash
# Weights from here to PyTorch and back, by safetensors: interchange.sh PROGRAM WORK [PYTHON]
# Exits with 77, which ctest shows as skipped, where PyTorch (Debian: python3-torch) is not installed.
set -euo pipefail
program=$1 work=$2 python=${3:-python3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$python" -c 'import torch, numpy' 2>/dev/null || { echo "PyTorch is not installed: nothing to exchange weights with"; exit 77; }
rm -rf "$work"
mkdir -p "$work/ours" "$work/theirs"
"$program" write "$work/ours"
"$python" "$here/interchange.py" "$work/ours" "$work/theirs"
"$program" read "$work/theirs"
