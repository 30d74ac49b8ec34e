#!/usr/bin/env bash
# Every source as .clang-format has it; check_format.sh --fix makes it so. Versions of clang-format disagree: ours is 14.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=$(command -v clang-format-14 || command -v clang-format)
mode=(--dry-run -Werror)
[ "${1:-}" != --fix ] || mode=(-i)
find ./*.h core autograd nn optim io examples tests bench \( -name '*.h' -o -name '*.cpp' \) -print0 |
  xargs -0 "$tool" --style=file "${mode[@]}"
