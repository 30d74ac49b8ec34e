#!/usr/bin/env bash
# The runner of the conformance cases is checked: a wrong number, a changed option or name, a broken file must fail, and say why.
# conformance_selftest.sh RUNNER
set -euo pipefail
runner=$1
cases=$(cd "$(dirname "${BASH_SOURCE[0]}")/../data/conformance" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C

die() { printf '%s\n' "$@" >&2; exit 1; }
# passes PATH, fails PATH WORDS: the runner's exit status, and that it prints WORDS.
passes() { said=$("$runner" "$@" 2>&1) || die "$* should pass:" "$said"; }
fails() {
  ! said=$("$runner" "$1" 2>&1) || die "$1 should fail ($2):" "$said"
  grep -qF -- "$2" <<<"$said" || die "$1 should fail with '$2':" "$said"
}
# header CASE FROM TO: `copy`, a copy of the case with TO for FROM in its header, filled up with the blanks that JSON allows.
header() {
  local to
  copy=$work/$1.safetensors
  to=$(printf "%-${#2}s" "$3")
  [ ${#to} = ${#2} ] && grep -qF -- "$2" "$cases/$1.safetensors" || die "cannot put '$3' for '$2' in $1"
  sed "s|${2//\\/\\\\}|${to//\\/\\\\}|" "$cases/$1.safetensors" >"$copy"
  ! cmp -s "$copy" "$cases/$1.safetensors" || die "could not put '$3' for '$2' in $1"
}
# flip CASE BYTE BITS: `copy`, a copy with the bits of that byte from the end changed. An expected tensor is a file's last.
flip() {
  local at
  copy=$work/$(basename "$1")
  cp "$1" "$copy"
  at=$(($(stat -c %s "$copy") - $2))
  printf "\\x$(printf %x $(($(od -An -tu1 -j $at -N 1 "$1") ^ $3)))" | dd of="$copy" bs=1 seek=$at conv=notrunc status=none
}

# Every kind passes, and does no longer when the exponent of one number is another.
for case in "$cases"/*.safetensors; do
  passes "$case"
  flip "$case" 1 64
  fails "$copy" 'expected'
done

# The bounds: 2^-44 of a float64 is near enough and 2^-28 is not, unless every bit counts; 2^-7 of a float32 is far off.
module=$cases/module-0052-LSTMCell.safetensors
flip "$module" 7 1; passes "$copy"
flip "$module" 5 1; fails "$copy" 'bound 1e-11'
flip "$cases/init-0099-LSTMCell.safetensors" 8 1; fails "$copy" 'equal to the bit'
flip "$cases/random-0192-draws.safetensors" 4 1; fails "$copy" 'equal to the bit'
flip "$cases/random-0196-draws.safetensors" 8 1; fails "$copy" 'equal to the bit'
flip "$cases/train-0100-LSTM.safetensors" 4 1; fails "$copy" 'bound 1e-09'
flip "$cases/loss-0182-cross_entropy.safetensors" 2 1; fails "$copy" 'bound 3e-05'
# A small float64 normal may be off by one unit in the last place, not by more, and from 16 numbers on not at all.
flip "$cases/random-0192-draws.safetensors" 68 1; passes "$copy"
flip "$cases/random-0192-draws.safetensors" 68 4; fails "$copy" 'within 1 ulp'
flip "$cases/random-0196-draws.safetensors" 512 1; fails "$copy" 'equal to the bit'
# NaN equals only NaN.
copy=$work/schedule-0185-StepLR.safetensors
{ head -c -8 "$cases/schedule-0185-StepLR.safetensors"; printf '\0\0\0\0\0\0\370\177'; } >"$copy"
fails "$copy" 'expected nan'

# Another option, other numbers.
header optim-0159-SGD '"lr":"0.01"' '"lr":"0.02"'; fails "$copy" 'param.5.'
header optim-0169-AdamW '"algorithm":"AdamW"' '"algorithm":"Adam"'; fails "$copy" 'param.5.'
header schedule-0187-ExponentialLR '"gamma":"0.9"' '"gamma":"0.8"'; fails "$copy" 'lr['
header train-0100-LSTM '"lr":"0.01"' '"lr":"0.02"'; fails "$copy" 'loss['
header init-0101-LSTM '"seed":"399034"' '"seed":"399035"'; fails "$copy" 'param.'
header dropout-0297-LSTM '"seed":"712628"' '"seed":"712629"'; fails "$copy" 'expected'
header random-0196-draws '"seed":"42"' '"seed":"43"'; fails "$copy" 'expected'
header loss-0172-mse_loss '"reduction":"none"' '"reduction":"mean"'; fails "$copy" 'expected shape'
header op-0243-sum '\"dim\": 1' '\"dim\": 0'; fails "$copy" 'expected shape'
header op-0239-clamp '\"max\": 0.8' '\"max\": 0.7'; fails "$copy" 'output['
header op-0239-clamp '"dtype":"float64"' '"dtype":"float32"'; fails "$copy" 'is not float32'

# What the runner does not know or does not use.
header op-0239-clamp '"kind":"op"' '"kind":"ox"'; fails "$copy" 'kind ox is unknown'
header op-0239-clamp '"op":"clamp"' '"op":"clump"'; fails "$copy" 'op clump is unknown'
header op-0262-narrow '"op":"narrow"' '"op":"neg"'; fails "$copy" 'arguments not understood'
header module-0052-LSTMCell '"module":"LSTMCell"' '"module":"LSTMCull"'; fails "$copy" 'module LSTMCull is unknown'
header loss-0177-huber_loss '"delta":"1.0"' '"dolta":"1.0"'; fails "$copy" 'not understood: option dolta'
header loss-0184-nll_loss '"class_weight"' '"klass_weight"'; fails "$copy" 'not understood: tensor klass_weight'
header loss-0184-nll_loss '"class_weight"' '"expect.weigh"'; fails "$copy" 'not compared: expect.weigh'
header op-0239-clamp '"expect.grad.input.0"' '"weight.grad.input.0"'; fails "$copy" 'no tensor expect.grad.input.0'
header random-0196-draws 'randperm' 'randpenn'; fails "$copy" 'call not understood'
header random-0196-draws ', 24]' ',2,4]'; fails "$copy" 'call not understood'

# No file, no case, not all of them.
head -c 300 "$module" >"$work/short.safetensors"; fails "$work/short.safetensors" '0 passed, 1 failed'
fails "$work/missing.safetensors" '0 passed, 1 failed'
mkdir -p "$work/empty" "$work/two/below"; fails "$work/empty" '0 passed, 0 failed'
cp "$module" "$work/two/below"; passes "$work/two"
cp "$work/short.safetensors" "$work/two"; fails "$work/two" '1 passed, 1 failed'
fails --unknown usage
