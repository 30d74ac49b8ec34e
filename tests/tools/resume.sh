#!/usr/bin/env bash
# What a run of char_lm leaves when it is interrupted, resumed, killed, or goes wrong: resume.sh CHAR_LM WORK
set -euo pipefail
char_lm=$1 work=$2
rm -rf "$work"
mkdir -p "$work"
train=("$char_lm" train --quick --steps 200 --valid-every 10 --dropout 0.2 --seed 3 --checkpoint-every)

fails() {  # WHAT IT SAYS COMMAND...
  if "${@:2}" >"$work/out.txt" 2>&1; then
    echo "this should have failed: ${*:2}"
    exit 1
  fi
  grep -q -- "$1" "$work/out.txt" || { cat "$work/out.txt" && exit 1; }
}
began() {  # FOLDER COMMAND...: has written to its log
  "${@:2}" >"$work/first.txt" 2>/dev/null &
  run=$!
  until [ -s "$1/log.jsonl" ]; do sleep 0.02; done
}

# Interrupted with Ctrl-C and resumed it is as if it had not been. To resume it needs no more than its folder.
"${train[@]}" 25 --out "$work/whole" >/dev/null 2>&1
began "$work/parts" "${train[@]}" 25 --out "$work/parts"
kill -INT "$run"
wait "$run"
grep -q 'go on with --resume' "$work/first.txt"
fails '--lr 1: .* was begun with 0.004' "$char_lm" train --out "$work/parts" --resume --lr 1
echo 'another text, long enough for a net to be trained on it' >"$work/other.txt"
fails 'not that of the run' "$char_lm" train --out "$work/parts" --resume --text "$work/other.txt"
"$char_lm" train --out "$work/parts" --resume --seed 3 >"$work/second.txt" 2>/dev/null
grep -q 'resumed at step' "$work/second.txt"

# Killed well after a checkpoint, and once more soon after it was resumed: its log keeps what was before the checkpoint.
began "$work/killed" "${train[@]}" 90 --out "$work/killed"
until grep -q '"step": 1[1-9]0,' "$work/killed/log.jsonl"; do sleep 0.01; done
kill -KILL "$run" || true
wait "$run" || true
"$char_lm" train --out "$work/killed" --resume >/dev/null 2>&1 &
run=$!
sleep 0.1
kill -KILL "$run" || true
wait "$run" || true
[ "$(wc -l <"$work/killed/log.jsonl")" -ge 9 ]
"$char_lm" train --out "$work/killed" --resume >/dev/null 2>&1

# Only the clock may differ.
for run in whole parts killed; do
  sed 's/, "seconds".*//' "$work/$run/log.jsonl" >"$work/$run.log"
  "$char_lm" sample --checkpoint "$work/$run/best.safetensors" --temperature 1 --length 300 >"$work/$run.sample"
done
for run in parts killed; do
  cmp "$work/whole.log" "$work/$run.log"
  cmp "$work/whole.sample" "$work/$run.sample"
done

# The rate has come down to 0, and the checkpoint knows the least of what was measured.
tail -n 1 "$work/whole/log.jsonl" | grep -q '"lr": 0.00000000'
least=$(sed 's/.*"valid_bits": \([^,]*\).*/\1/' "$work/whole/log.jsonl" | sort -g | head -n 1)
best=$(grep -aoE 'best_bits":"[0-9.]+' "$work/whole/last.safetensors" | sed 's/.*"//')
[ "$(printf %.6f "$best")" = "$least" ]

# Another seed is another sample, and another run. A gradient that is clipped to nothing moves nothing.
"$char_lm" sample --checkpoint "$work/whole/best.safetensors" --temperature 1 --length 300 --seed 2 >"$work/seed.sample"
if cmp "$work/whole.sample" "$work/seed.sample"; then exit 1; fi
for seed in 4 5; do
  "$char_lm" train --quick --steps 6 --valid-every 2 --clip 1e-30 --weight-decay 0 --seed $seed --out "$work/seed$seed" >/dev/null 2>&1
  sed 's/.*"valid_bits": \([^,]*\).*/\1/' "$work/seed$seed/log.jsonl" | sort -u >"$work/seed$seed.bits"
  [ "$(wc -l <"$work/seed$seed.bits")" = 1 ]
done
if cmp "$work/seed4.bits" "$work/seed5.bits"; then exit 1; fi

# A run that goes wrong says so, and what an older one left is not taken for its own.
fails 'a smaller --lr may help' "${train[@]}" 25 --out "$work/parts" --weight-decay 1e30
[ ! -e "$work/parts/best.safetensors" ]

# Texts that are short, or have other letters.
fails 'expected at least 40' "${train[@]}" 25 --out "$work/short" --text <(echo too short)
head -c 9000 /dev/zero | tr '\0' 'G' | sed 's/GGG/ACG/g' >"$work/dna.txt"
"$char_lm" train --quick --steps 2 --text "$work/dna.txt" --out "$work/dna" >/dev/null 2>&1
[ "$("$char_lm" sample --checkpoint "$work/dna/best.safetensors" --length 50 --temperature 1e-310 | tr -d 'ACG' | wc -c)" = 1 ]
fails "'T' does not occur" "$char_lm" sample --checkpoint "$work/dna/best.safetensors" --prime The
fails 'not a finite number' "$char_lm" sample --checkpoint "$work/dna/best.safetensors" --temperature nan

# What cannot be written is not passed over; but a line of progress is not worth a run.
fails 'cannot write' sh -c '"$1" sample --checkpoint "$2" >/dev/full' sh "$char_lm" "$work/dna/best.safetensors"
"$char_lm" train --quick --steps 2 --out "$work/quiet" >/dev/null 2>/dev/full
