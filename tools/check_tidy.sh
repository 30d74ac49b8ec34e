#!/usr/bin/env bash
# clang-tidy over the given sources, or over those that differ from HEAD. Reads build/compile_commands.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || mapfile -t changed < <({ git diff --name-only --diff-filter=d HEAD && git ls-files -o --exclude-standard; } | grep '\.cpp$')
printf '%s\0' "${@:-${changed[@]}}" | xargs -0 -r -n 1 -P "$(nproc)" "$(command -v clang-tidy-14 || command -v clang-tidy)" -p build --quiet
