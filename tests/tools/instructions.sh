#!/usr/bin/env bash
# What an eager op on small tensors costs: instructions, which callgrind counts (the same on a loaded machine), and calls of
# malloc, of which a training step in its steady state makes none. Each count has a planted twin that must be found.
# instructions.sh PROGRAM
set -euo pipefail
program=$1
export OPENBLAS_NUM_THREADS=1  # an OpenBLAS that starts threads as it is loaded would make counts of references atomic

"$program" mallocs 10
if "$program" mallocs_planted 10; then
  echo "a planted operator new was not noticed"
  exit 1
fi

command -v valgrind >/dev/null || { echo "no valgrind: instructions are not counted"; exit 77; }

total() { valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'; }
# Of one op: what n more of them add.
count() { echo $((($(total "$1" 6000) - $(total "$1" 2000)) / 4000)); }
within() {  # WHAT BOUND
  local n
  n=$(count "$1")
  echo "$1: $n instructions, at most $2"
  [ "$n" -gt 0 ] && [ "$n" -le "$2" ]
}

# Measured with g++ 12 (346, 592, 1661, 1232), and less on top than was gained last.
within plain_add 370
within add 630
within mul_backward 1780
within tanh_backward 1285
if within add_planted 630; then
  echo "an op that was recorded twice was not noticed"
  exit 1
fi
