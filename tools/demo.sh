#!/usr/bin/env bash
# Train a character-level LSTM on the constitution and the declaration, and show what it learned: demo.sh [STEPS OF TRAINING].
# Installs the Debian packages it misses; works from any directory. All it writes goes to demo/.
set -euo pipefail
if [[ ! ${1:-4000} =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,3s/^# //p' "$0"
  exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/packages.sh
need "${build_packages[@]}" "${demo_packages[@]}"

cmake --preset release
cmake --build --preset release --target char_lm

mkdir -p demo
texts=(/usr/share/state/us-declaration.gz /usr/share/state/us-constitution.gz)
text=()  # none: char_lm makes one up
if gunzip -c "${texts[@]}" >demo/text.txt 2>/dev/null; then
  text=(--text demo/text.txt)
else
  echo "package miscfiles is not here: training on generated text"
fi
build/examples/char_lm train "${text[@]}" --out demo/run --dropout 0.25 --steps "${1:-4000}" --seed 1
