#!/usr/bin/env bash
# The rule of dependence: each folder includes only what is below it. check_dependence.sh [ROOT]
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

status=0
# forbid FOLDER REGEX WHY: no source below FOLDER may have an include that matches.
forbid() {
  local found
  [ -d "$1" ] || return 0
  if found=$(grep -rnE --include='*.h' --include='*.cpp' "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$2" "$1"); then
    printf '%s\n    %s\n' "$found" "$3" >&2
    status=1
  fi
}

all=(core autograd nn optim io)
allow() {
  local folder=$1 other
  shift
  for other in "${all[@]}"; do
    [[ " $* " == *" $other "* ]] || forbid "$folder" "unroll/$other/" "$folder may include only $*"
  done
  forbid "$folder" 'unroll/unroll\.h' "the umbrella header is for users"
}
allow core      core
allow autograd  core autograd
allow nn        core autograd nn
allow optim     core autograd optim
allow io        core autograd nn optim io

for folder in "${all[@]}"; do
  forbid "$folder" '\.\./' "a way around the rule"
done
for folder in examples bench; do
  forbid "$folder" '(unroll/core/kernels/|\.\./)' "$folder sees public headers only"
done

# Users compile our headers and need not have what only our sources use.
if headers=$(find "${all[@]}" -name '*.h' -exec grep -nHE '#include *[<"](cblas|nlohmann|CLI|doctest)' {} + 2>/dev/null); then
  printf '%s\n    %s\n' "$headers" "a header may not include a private dependency" >&2
  status=1
fi
exit $status
