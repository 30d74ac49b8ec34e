#!/usr/bin/env bash
# Build for 64-bit ARM with Debian's cross compiler and run the tests of the vector code there, on qemu: those that try every
# instruction set. Four minutes on one core, half of one for the tests, so not a part of .ci/run. Installs the Debian packages
# it misses, for which dpkg is told of the architecture arm64; works from any directory.
#
# The other tests run there as well: cmake --build --preset neon --target unroll_tests (eight minutes more), then
# qemu-aarch64 build-neon/tests/unroll_tests (five).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/packages.sh
need "${build_packages[@]}" "${neon_packages[@]}"

cmake --preset neon
cmake --build --preset neon
built=$SECONDS

# That nothing but NEON can run: no other kernels are there.
kernels=$(aarch64-linux-gnu-nm -C build-neon/tests/kernel_tests | grep -oE '\bkernels::N_[A-Z0-9_]+' | sort -u | paste -sd ' ')
if [ "$kernels" != kernels::N_NEON ]; then
  echo "expected the kernels of NEON and no others, found: $kernels" >&2
  exit 1
fi

status=0
ctest --preset neon --output-junit tests.xml || status=$?

read -r passed failed < <(tools/count_tests.sh build-neon/tests.xml)
echo
echo "NEON: built in $built s, tested in $((SECONDS - built)) s: $passed passed, $failed failed"
exit "$status"
