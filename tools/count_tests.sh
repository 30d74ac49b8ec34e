#!/usr/bin/env bash
# count_tests.sh JUNIT_FILE...: prints "PASSED FAILED" for runs of ctest. An entry that runs doctest or the conformance runner counts
# as the cases it reports, any other entry as one; an entry that failed without reporting a failed case (it crashed) as one failure; one
# that said it has nothing to do here (SKIP_RETURN_CODE) as nothing.
set -euo pipefail
cat "$@" | awk '
  /<testcase /                   { status = $0; sub(/.* status="/, "", status); sub(/".*/, "", status); p = f = 0 }
  /<skipped message="SKIP_RETURN_CODE/ { status = "skipped" }
  /\[doctest\] test cases:/      { split($0, n, "|"); p += n[2] + 0; f += n[3] + 0 }
  /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 }
  /<\/testcase>/ {
    if (status == "run" && p + f == 0) p = 1
    if (status != "run" && status != "skipped" && f == 0) f = 1
    passed += p; failed += f
  }
  END { print passed + 0, failed + 0 }'
