#!/usr/bin/env bash
# A run of char_lm that is interrupted with Ctrl-C and resumed leaves the same log and the same weights as one that is not: resume.sh CHAR_LM WORK
set -euo pipefail
char_lm=$1 work=$2
rm -rf "$work"
mkdir -p "$work"
train=("$char_lm" train --quick --steps 200 --valid-every 10 --checkpoint-every 25 --dropout 0.2 --seed 3)

"${train[@]}" --out "$work/whole" >/dev/null 2>&1
"${train[@]}" --out "$work/parts" >"$work/first.txt" 2>/dev/null &
run=$!
until [ -s "$work/parts/log.jsonl" ]; do sleep 0.02; done
kill -INT "$run"
wait "$run"
grep -q 'go on with --resume' "$work/first.txt"
"${train[@]}" --out "$work/parts" --resume >"$work/second.txt" 2>/dev/null
grep -q 'resumed at step' "$work/second.txt"

# Only the clock may differ.
for run in whole parts; do
  sed 's/, "seconds".*//' "$work/$run/log.jsonl" >"$work/$run.log"
  "$char_lm" sample --checkpoint "$work/$run/best.safetensors" --temperature 1 --length 300 >"$work/$run.sample"
done
cmp "$work/whole.log" "$work/parts.log"
cmp "$work/whole.sample" "$work/parts.sample"
grep -o 'resumed at step .*' "$work/second.txt"
