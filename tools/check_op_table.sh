#!/usr/bin/env bash
# Every op that records a gradient has a row in the op table of the tests. check_op_table.sh [ROOT]
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
table=tests/autograd/ops_test.cpp

# names PATTERN < SOURCE: the string literals that follow PATTERN, over line ends too.
names() { tr '\n' ' ' | grep -oE "$1 *\"[^\"]+\"" | sed 's/.*"\(.*\)"/\1/' | sort -u; }

# in_place is the one function that hands a name on to record.
recorded=$(cat autograd/ops/*.cpp | names '\b(record(_all|_fused)?|in_place)\(')
hidden=$(grep -nE '\brecord(_all|_fused)?\([a-z]' autograd/ops/*.cpp | grep -v '^autograd/ops/in_place.cpp:' || true)
if [ -n "$hidden" ]; then
  printf '%s\n    give record the name itself, so that it can be checked for its row\n' "$hidden" >&2
  exit 1
fi

rows=$(names '\{' <"$table")

missing=$(comm -23 <(echo "$recorded") <(echo "$rows"))
if [ -n "$missing" ]; then
  printf 'no row in %s for: %s\n' "$table" "${missing//$'\n'/ }" >&2
  exit 1
fi
echo "$(wc -l <<<"$recorded") ops, each with a row"
