#!/usr/bin/env bash
# A virtual environment with the rivals: PyTorch, JAX and ONNX Runtime, the newest there are. setup.sh [FOLDER]
#
# 6 GB, most of it PyTorch's wheel with its CUDA libraries; nothing but compare.py uses it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-build-rivals}

python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --upgrade torch numpy jax onnx onnxruntime
"$folder/bin/python" - <<'PYTHON'
import importlib.metadata
for name in ("torch", "jax", "onnxruntime"):
    print(name, importlib.metadata.version(name))
PYTHON
