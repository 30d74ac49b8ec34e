#!/usr/bin/env bash
# Each installed header compiles by itself, and unroll.h names all but the internal ones (kernels, detail). check_headers.sh INCLUDE_DIR
# The warnings are those of projects that add our sources to theirs, too.
set -euo pipefail
cd "$1"

missing=$(find unroll -name '*.h' ! -path '*/kernels/*' ! -path '*/detail/*' ! -path unroll/unroll.h | sort | while read -r header; do
  grep -qxF "#include <$header>" unroll/unroll.h || echo "$header"
done)
if [ -n "$missing" ]; then
  printf 'not in unroll.h: %s\n' "${missing//$'\n'/ }" >&2
  exit 1
fi

flags=$(pkg-config --cflags fmt)
# In g++'s own dialect C's complex.h makes a macro of I.
# shellcheck disable=SC2086
printf '#include <complex.h>\n#include <unroll/unroll.h>\n' | ${CXX:-c++} -std=gnu++20 -I. $flags -fsyntax-only -x c++ -
# shellcheck disable=SC2016,SC2086
find unroll -name '*.h' -print0 | xargs -0 -n 1 -P "$(nproc)" sh -c \
  'cxx=$1 flags=$2; echo "#include <$3>" | $cxx -std=c++20 -Wall -Wextra -Woverloaded-virtual -Wnon-virtual-dtor -Werror -I. $flags -fsyntax-only -x c++ -' sh "${CXX:-c++}" "$flags"
