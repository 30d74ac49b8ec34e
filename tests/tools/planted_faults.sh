#!/usr/bin/env bash
# The checks of the tree are checked: each must pass a clean little tree and name the fault that is planted in it.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

plant() { mkdir -p "$tree/$(dirname "$1")" && printf '%b\n' "$2" >"$tree/$1"; }
passes() { "$tools/$1" "$tree" >/dev/null || { echo "$1 fails a clean tree" >&2; exit 1; }; }
# fails CHECK FILE TEXT WORD: with TEXT in FILE, CHECK fails and says WORD.
fails() {
  local kept=''
  [ ! -f "$tree/$2" ] || kept=$(cat "$tree/$2")
  plant "$2" "$3"
  if said=$("$tools/$1" "$tree" 2>&1) || ! grep -q "$4" <<<"$said"; then
    echo "$1 missed '$3' in $2; it said: $said" >&2
    exit 1
  fi
  if [ -n "$kept" ]; then plant "$2" "$kept"; else rm "$tree/$2"; fi
  passes "$1"
}

plant core/tensor.h '#include <vector>'
plant autograd/node.h '#include <unroll/core/tensor.h>'
plant nn/linear.cpp '#include <unroll/autograd/node.h>\n#include <unroll/core/tensor.h>'
plant optim/sgd.cpp '#include <unroll/autograd/node.h>'
plant io/safetensors.cpp '#include <nlohmann/json.hpp>\n#include <unroll/nn/linear.h>\n#include <unroll/optim/sgd.h>'
plant examples/hello.cpp '#include <unroll/unroll.h>'
passes check_dependence.sh
fails check_dependence.sh core/alloc.cpp '#include <unroll/autograd/node.h>' 'core/alloc.cpp:1'
fails check_dependence.sh core/kernels/gemm.h '#include "unroll/nn/linear.h"' core/kernels/gemm.h
fails check_dependence.sh autograd/ops/shape.cpp '#include <vector>\n# include <unroll/nn/linear.h>' autograd/ops/shape.cpp:2
fails check_dependence.sh optim/adam.cpp '#include <unroll/nn/module.h>' optim/adam.cpp
fails check_dependence.sh nn/lstm.cpp '#include <unroll/io/safetensors.h>' nn/lstm.cpp
fails check_dependence.sh nn/gru.cpp '#include "../optim/sgd.h"' nn/gru.cpp
fails check_dependence.sh io/checkpoint.cpp '#include <unroll/unroll.h>' io/checkpoint.cpp
fails check_dependence.sh examples/fast.cpp '#include <unroll/core/kernels/gemm.h>' examples/fast.cpp
fails check_dependence.sh bench/fast.cpp '#include "../core/gemm.h"' bench/fast.cpp
fails check_dependence.sh core/blas.h '#include <cblas.h>' core/blas.h
fails check_dependence.sh io/json.h '#include <nlohmann/json.hpp>' io/json.h

plant tests/autograd/ops_test.cpp 'const Row rows[] = {\n  {"tanh", f, {}},\n  {"cat", g, {}},\n};'
plant autograd/ops/activation.cpp 'return record("tanh", {x}, y);\nreturn record_all(\n    "cat", xs);'
passes check_op_table.sh
fails check_op_table.sh autograd/ops/reduce.cpp 'return record("logsumexp", {x}, y);' logsumexp
fails check_op_table.sh autograd/ops/matmul.cpp 'return record_fused(\n    "linear", {x});' linear
fails check_op_table.sh autograd/ops/in_place.cpp 'return in_place("add_", x, f);' add_
fails check_op_table.sh autograd/ops/index.cpp 'Tensor f(const char* name) { return record(name, {x}); }' index.cpp:1
fails check_op_table.sh tests/autograd/ops_test.cpp '{"tanh", f, {}}' cat

rows=$(for n in {1..99}; do echo "| $n | what | \`nn/a_test\`, \`nn/b_test\`: *one … all*; *two* |"; done)
cases='TEST_CASE("nn: one and all") {}\nTEST_CASE_TEMPLATE(\n    "two", T, int) {}'
last='| 100 | what | `nn/b_test`: *two* |'
plant docs/contract-tests.md "$rows\n$last"
plant tests/nn/a_test.cpp "$cases"
plant tests/nn/b_test.cpp "$cases"
passes check_contract_table.sh
fails check_contract_table.sh tests/nn/b_test.cpp 'TEST_CASE("two") {}' "row 7: tests/nn/b_test.cpp has no case 'one … all'"
fails check_contract_table.sh tests/nn/b_test.cpp "${cases/two/not two}" "row 100: tests/nn/b_test.cpp has no case 'two'"
fails check_contract_table.sh tests/nn/a_test.cpp "${cases/two/two, nearly}" "row 99: tests/nn/a_test.cpp has no case 'two'"
fails check_contract_table.sh docs/contract-tests.md "$rows" 'row 100: missing'
fails check_contract_table.sh docs/contract-tests.md "$rows\n${last/b_test/c_test}" 'there is no tests/nn/c_test.cpp'
fails check_contract_table.sh docs/contract-tests.md "$rows\n${last/: \*two\*/}" 'row 100: names no case'
fails check_contract_table.sh docs/contract-tests.md "$rows\n$last\n$last" 'row 100: expected row 101'

# What ctest ran is counted by cases: 8 and 7 of doctest's passed and 2 failed, 5 and 3 of the conformance runner's, one entry that
# counts nothing passed and one crashed; one had nothing to do here, and one was not run.
plant tests.xml '<testcase name="a" status="run">\n[doctest] test cases: 8 | 8 passed | 0 failed | 0 skipped\n</testcase>
<testcase name="b" status="fail">\n[doctest] test cases: 10 | 7 passed | 2 failed | 1 skipped\n</testcase>
<testcase name="c" status="fail">\n5 passed, 3 failed\n</testcase>
<testcase name="d" status="run">\n</testcase>\n<testcase name="e" status="fail">\n</testcase>
<testcase name="f" status="notrun">\n<skipped message="SKIP_RETURN_CODE=77"/>\n</testcase>
<testcase name="g" status="notrun">\n<skipped message="Disabled"/>\n</testcase>'
counted=$("$tools/count_tests.sh" "$tree/tests.xml")
[ "$counted" = "21 7" ] || { echo "count_tests.sh counts $counted, not 21 passed and 7 failed" >&2; exit 1; }
