#!/usr/bin/env bash
# Compile the samples of README.md and docs/ against the installed library that pkg-config finds: check_docs.sh WORK
#
# Of the blocks that open with ```cpp, those that have a main() are programs: compiled, linked and run (```cpp no-run: not
# run). All others are compiled after `#include <unroll/unroll.h>` and `using namespace unroll;`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$1
rm -rf "$work"
mkdir -p "$work"
cd "$work"

find "$root/README.md" "$root/docs" -name '*.md' 2>/dev/null | sort | while read -r page; do
  awk -v stem="$(basename "$page" .md)" -v page="$page" '
    !inside && /^```cpp/ { inside = 1; kind = "part"; run = !/no-run/; text = ""; line = NR; next }
    inside && /^```/ {
      inside = 0
      if (text ~ /int main\(/) kind = run ? "run" : "build"
      file = sprintf("%s_%d.%s.cpp", stem, line, kind)
      if (kind == "part") print "#include <unroll/unroll.h>\nusing namespace unroll;" > file
      printf "#line %d \"%s\"\n%s", line + 1, page, text > file
      close(file)
    }
    inside { text = text $0 "\n" }' "$page"
done

shopt -s nullglob
samples=(*.cpp)
for sample in "${samples[@]}"; do
  echo "$sample"
  case $sample in
    *.part.cpp) eval "${CXX:-c++} -std=c++20 -Wall -Wextra -Werror -fsyntax-only $sample $(pkg-config --cflags unroll)" ;;
    *) eval "${CXX:-c++} -std=c++20 -Wall -Wextra -Werror -O1 $sample -o ${sample%.cpp} $(pkg-config --cflags --libs unroll)" ;;
  esac
  [[ $sample != *.run.cpp ]] || timeout 120 "./${sample%.cpp}"
done
echo "${#samples[@]} samples"
