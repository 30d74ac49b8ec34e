#!/usr/bin/env bash
# docs/contract-tests.md has a hundred rows, and each names at least one test case; all that are named exist.
# check_contract_table.sh [ROOT]
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
table=docs/contract-tests.md
wrong=0
declare -A cases
complain() { echo "$table, row $1" >&2; wrong=1; }

# names FILE: of its test cases.
names() { tr '\n' ' ' <"$1" | grep -oE 'TEST_CASE[A-Z_]*\( *([A-Za-z]+, *)?"[^"]+"' | sed 's/^[^"]*"\(.*\)"$/\1/'; }

# A row is | number | what | `file`, `file`: *case*; *case*; `file`: *case* |. A name may lack what stands before its
# first colon, and "…" is any text. It must be in every file before it.
expected=1
while IFS='|' read -r _ number _ where _; do
  number=${number// /}
  [ "$number" = $expected ] || complain "$number: expected row $expected"
  expected=$((number + 1))
  files=() named=0 after=file
  while read -r token; do
    if [[ $token == \`* ]]; then
      [ $after = file ] || files=()
      after=file file=tests/${token//\`/}.cpp
      if [ ! -f "$file" ]; then
        complain "$number: there is no $file"
        continue
      fi
      files+=("$file")
      [ -n "${cases[$file]:-}" ] || cases[$file]=$(names "$file")
      continue
    fi
    after=case named=$((named + 1))
    name=${token:1:-1}
    pattern=$(sed 's/[][\\.^$+?(){}|]/\\&/g; s/…/.*/g' <<<"$name")
    for file in "${files[@]}"; do
      grep -qxE "([^:]+: )?$pattern" <<<"${cases[$file]}" || complain "$number: $file has no case '$name'"
    done
  done < <(grep -oE '`[a-z_/]+_test`|\*[^*]+\*' <<<"$where")
  [ $named -gt 0 ] || complain "$number: names no case"
done < <(grep -E '^\| [0-9]+ \|' $table)
[ $expected = 101 ] || complain "$expected: missing"
exit $wrong
