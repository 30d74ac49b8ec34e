#!/usr/bin/env bash
# clang-tidy over the given sources, or over those that differ from HEAD: check_tidy.sh [FILE...]. Reads the compile commands
# of the release build; BUILD names another build folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
commands=${BUILD:-build}/compile_commands.json
if [ ! -f "$commands" ]; then
  echo "no $commands: run 'cmake --preset release' first" >&2
  exit 2
fi
if [ $# -eq 0 ]; then
  mapfile -t changed < <({ git diff --name-only --diff-filter=d HEAD && git ls-files -o --exclude-standard; } | grep '\.cpp$')
  [ ${#changed[@]} -gt 0 ] || exit 0
  set -- "${changed[@]}"
fi
tool=$(command -v clang-tidy-14 || command -v clang-tidy)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed 's/-Winvalid-pch -include [^ ]*//' "$commands" >"$work/compile_commands.json"  # g++'s precompiled headers are its own
printf '%s\0' "$@" | xargs -0 -n 1 -P "$(nproc)" "$tool" -p "$work" --quiet
