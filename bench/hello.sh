#!/usr/bin/env bash
# What the smallest program costs: seconds to compile, to run, and resident memory, a line of JSON each for unroll and, given
# the Python of an environment that has PyTorch, for that, in C++ and in Python. hello.sh [PYTHON]
#
# The library is the newest build's. Times are the least of several.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# least TIMES COMMAND...: "SECONDS KIB", the least time and memory. A small program, since the memory of who starts another
# one counts as that one's.
"${CXX:-g++}" -std=c++20 -O2 bench/least.cpp -o "$work/least"
least() { "$work/least" "$@"; }
# line WHAT COMPILE_SECONDS COMMAND...: the JSON.
line() {
  local run
  run=$(least 5 "${@:3}")
  printf '{"what": "%s", "compile_seconds": %s, "run_seconds": %s, "resident_kib": %s}\n' "$1" "$2" "${run% *}" "${run#* }"
}

library=$(find build*/ -maxdepth 1 -name 'libunroll.*' -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 1 | cut -d' ' -f2)
[ -n "$library" ] || { echo "no libunroll: cmake --preset bench && cmake --build --preset bench" >&2; exit 1; }
build=$(dirname "$library")
compiled=$(least 3 "${CXX:-g++}" -std=c++20 -O2 -I "$build/include" bench/hello.cpp -o "$work/hello" \
  -L "$build" -Wl,-rpath,"$PWD/$build" -lunroll -lfmt -lopenblas -lpthread)
line unroll "${compiled% *}" "$work/hello"

if [ -n "$python" ]; then
  torch=$("$python" -c 'import torch, os; print(os.path.dirname(torch.__file__))')
  compiled=$(least 1 "${CXX:-g++}" -std=c++20 -O2 -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
    bench/rivals/hello_libtorch.cpp -o "$work/libtorch" -L "$torch/lib" -Wl,-rpath,"$torch/lib" -Wl,--no-as-needed \
    -ltorch -ltorch_cpu -lc10)
  line "PyTorch from C++" "${compiled% *}" "$work/libtorch"
  line "PyTorch from Python" null "$python" bench/rivals/hello_pytorch.py
fi
