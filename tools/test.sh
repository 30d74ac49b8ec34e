#!/usr/bin/env bash
# Build everything and run every test. Installs the Debian packages it misses; works from any directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/packages.sh
need "${build_packages[@]}" "${bench_packages[@]}"

cmake --preset release
cmake --build --preset release
built=$SECONDS

status=0
ctest --preset release --parallel "$(nproc)" --output-junit tests.xml || status=$?

read -r passed failed < <(tools/count_tests.sh build/tests.xml)
echo
echo "built in $built s, tested in $((SECONDS - built)) s: $passed passed, $failed failed"
exit "$status"
