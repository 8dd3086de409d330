#!/usr/bin/env bash
# Measure this checkout on one GPU, unattended: bash tests/gpu.sh OUT [--rehearse]
#
# Writes rows of part,name,value,unit,seconds to OUT/rows.csv as they come, in the order of
# worth, and what the programs print to OUT/log.txt. A call takes at most 8 minutes. Another
# call with the same OUT/rows.csv goes on with the parts that are missing, then with those
# that failed. --rehearse tries all parts in tiny sizes, also on a CPU.
#
# TensorFlow is that of python3, or else that of the folder .gpu in the checkout, which has
# to hold unpack.sh, env.sh and what they need. PyTorch runs without their environment.
set -u
cd "$(dirname "$0")/.." || exit
root=$PWD out=${1:?the folder for the rows is missing} rehearse=${2:-} env=
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit
rows=$out/rows.csv work=$(mktemp -d) end=470
trap 'rm -rf "$work"' EXIT
[ -e "$rows" ] || echo part,name,value,unit,seconds > "$rows"
failed_before=$(grep -oE '^[^,]*,failed,' "$rows")
if ! python3 -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("tensorflow"))' && [ -d .gpu ]
then
  [ -d /tmp/tf/site/tensorflow ] || bash .gpu/unpack.sh .gpu || exit
  env=$root/.gpu/env.sh
fi
export root work env out TF_FORCE_GPU_ALLOW_GROWTH=true XDG_CACHE_HOME=$work/cache

# part NAME LIMIT COMMAND...: add the rows that a command prints, and whether it succeeded
# within LIMIT seconds. Parts that failed before this call wait for the second round.
part() {
  local name=$1 limit=$2 start=$SECONDS status; shift 2
  grep -qE "^$name,(done|skipped)," "$rows" && return
  [ "$round" = "$(grep -q "^$name,failed," <<< "$failed_before" && echo 2 || echo 1)" ] || return
  if [ $((SECONDS + limit)) -gt $end ]; then echo "$name: left for another call"; return; fi
  timeout -k 5 "$limit" bash -c '"$@"' - "$@" 2>> "$out/log.txt" |
    while IFS= read -r row; do echo "$name,$row,$((SECONDS - start))" >> "$rows"; done
  status=${PIPESTATUS[0]}
  [ "$status" = 0 ] && row=done,1, || row="failed,$status,exit status"
  echo "$name,$row,$((SECONDS - start))" | tee -a "$rows"
}

# the same for what only a GPU can do
gpu_part() {
  if grep -q '^device,GPUs,0,' "$rows"; then skip "$1" 'no GPU'; else part "$@"; fi
}

skip() {
  grep -q "^$1,skipped," "$rows" || echo "$1,skipped,,$2," | tee -a "$rows"
}

tf() {  # python3 with TensorFlow
  [ -z "$env" ] || . "$env"
  python3 "$@"
}

device() {
  tf -c 'from main import tf; from dcgan.compute.devices import gpu_details
print(gpu_details().get("device_name", "CPU"), tf.__version__, "TensorFlow", sep=",")
print("GPUs", len(tf.config.list_physical_devices("GPU")), "", sep=",")'
}

recording() {  # CASE XLA: hold a recording of the original beside ours, in float32
  local golden=tests/golden/$1 ours=$work/$1-$2 status
  mkdir "$ours" && cp -r "$golden/checkpoint" "$ours" || return
  sed "s/\"dcgan\": {/&\"xla\": $2, /" "$golden/case.json" > "$ours/case.json"
  NVIDIA_TF32_OVERRIDE=0 tf tests/conformance/drive.py run --impl . \
    --case "$ours/case.json" --out "$ours" >&2 || return
  python3 tests/conformance/compare.py "$golden" "$ours" > "$ours/compared"; status=$?
  sed -E 's/^(.*[^ ]) +([^ ]+) +tolerance ([^ ]+) +(ok|FAIL).*/\1 \4,\2,of \3/' "$ours/compared"
  return $status
}

train() {  # NAME FLAGS...: a short run of main.py on JPEGs
  local name=$1; shift
  (cd "$work" && tf "$root/main.py" --train --dataset jpegs --crop --seed 1 $train_flags \
    --out_name "$name" "$@" >&2)
}

make_jpegs() {
  [ -d "$work/data" ] ||
    tf -c 'import sys; sys.path.insert(0, "tests")
from bench_data import make_data; make_data(sys.argv[1], ["64"], 64)' "$work"
}

seeds() {  # whether a second run, and a resumed one, are the same as the first
  local first=$work/out/first run file
  make_jpegs && train first --epoch 2 || return
  train resumed --epoch 1 && train resumed --epoch 2 &
  train second --epoch 2 || { wait; return 1; }
  wait $! || return
  for run in second resumed; do
    for file in metrics.csv checkpoint/model.*-20.data-00000-of-00001; do
      ls "$first"/$file >&2 || return
      cmp -s <(without_seconds "$first"/$file) <(without_seconds "$work/out/$run"/$file)
      echo "$run: same $(basename "$file"),$((! $?)),"
    done
  done
}

without_seconds() {
  case $1 in *.csv) cut -d, -f1-3,5- "$1" ;; *) cat "$1" ;; esac
}

page() {  # ms of the page's answers
  make_jpegs && train page --epoch 1 || return
  cd "$work" && tf -c 'import json, re, statistics, subprocess, sys, time
from urllib.request import Request, urlopen
command = [sys.executable, *sys.argv[1:], "--out_name", "page", "--page"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    url = next(filter(None, (re.search("http://[^ ]+", line) for line in server.stdout)))[0]
    for count in (1, 64):
        times = []
        for seed in range(20):
            body = json.dumps({"seed": seed, "count": count}).encode()
            request = Request(f"{url}samples", body, {"Content-Type": "application/json"})
            start = time.perf_counter()
            urlopen(request).read()
            times.append(time.perf_counter() - start)
        print(f"page {count} samples,{1e3 * statistics.median(times):.6g},ms", flush=True)
    server.terminate()' "$root/main.py"
}

bench() { tf tests/bench.py --rows "$@"; }

torch() {
  env -u PYTHONPATH -u LD_LIBRARY_PATH -u XLA_FLAGS python3 tests/bench_torch.py "$@"
}

export -f tf device recording train make_jpegs seeds without_seconds page bench torch

round=1
part device 60 device
grep -q ^device,done, "$rows" || { tail -5 "$out/log.txt"; exit 1; }
if grep -q '^device,GPUs,0,' "$rows"; then
  [ "$rehearse" ] || { echo 'TensorFlow sees no GPU; --rehearse tries the parts on a CPU'; exit 1; }
  precision=float32 kinds=float32
else
  precision=tf32 kinds='tf32 tf32-xla'
fi
sizes='mnist 64' size=64 batch=64 batches='256 1024' seconds=4 iterations=200
cases='cond28 rgb64 rgb_odd' compiled='false true'
if [ "$rehearse" ]; then
  sizes=16 size=16 batch=4 batches=8 seconds=0.1 iterations=4 cases=cond28 compiled=false
fi
export train_flags="--precision $precision --output_height $size --batch_size $batch
  --train_size $((10 * batch))"
small="--seconds $seconds --batch $batch"

for round in 1 2; do
  # what is not timed, at the same time
  for xla in $compiled; do
    for case in $cases; do part "recording-$case-xla-$xla" 120 recording "$case" "$xla" & done
  done
  part seeds 150 seeds &
  wait
  # with samples a second
  part bench-float32 140 bench --bare $small --size $sizes --kinds original ${kinds//tf32/float32}
  for name in tf32 bfloat16; do
    gpu_part "bench-$name" 140 bench --bare $small --size $sizes --kinds $name $name-xla
  done
  for b in $batches; do
    gpu_part "batch-$b" 120 bench --bare --seconds $seconds --batch "$b" --size $sizes --kinds $kinds
  done
  part "main-images" 160 bench --main $small --size $size --kinds ${kinds##* }
  gpu_part "main-mnist" 100 bench --main $small --size mnist --kinds ${kinds##* }
  gpu_part seed-cost 100 bench --main $small --size mnist --kinds ${kinds##* } -- --seed 1
  if python3 -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))'; then
    part torch 120 torch --size $sizes --iterations $iterations
  else
    skip torch 'no PyTorch'
  fi
  part page 60 page
  for kind in tf32 float32-xla bfloat16-xla; do
    gpu_part "main-$kind" 200 bench --main $small --size $sizes --kinds $kind
  done
done
