#!/usr/bin/env bash
# A render on a Slurm cluster: it starts Ray on the nodes of one allocation, for one job.
#
# Starts: a Ray head and a worker on every node of the allocation (below: 2 nodes with one GPU each, for 4 hours), and the
#         render on the first node; everything ends with the job.
# Costs:  nodes times hours, as your cluster accounts them.
#
#   make submit cluster=slurm conf=poster image=me.jpg output.dir=/shared/dreams/poster
#   make attach cluster=slurm job=ID
#   make cluster-status cluster=slurm
#
# Without make, from the project's directory: sbatch cluster/slurm.sh conf=poster image=me.jpg output.dir=/shared/poster.
# The #SBATCH lines below are defaults. Other values: sbatch --nodes=8 --time=12:00:00 cluster/slurm.sh ..., or in the
# environment: SBATCH_PARTITION=gpu SBATCH_ACCOUNT=mine SBATCH_TIMELIMIT=12:00:00 make submit ...
# All nodes must see the project's directory with its .venv (make setup EXTRAS=cuda), the picture, and output.dir; that may
# be s3://... as in the clouds. Three minutes before the time limit the render saves the canvas, and the job is queued again
# and goes on from there, so long renders work with a short time limit. scancel --batch --signal=TERM JOB saves, then ends
# the job; plain scancel ends it at once, and the same command goes on from the last checkpoint.
#
#SBATCH --job-name=pareidolia
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=48G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=pareidolia-%j.log
set -euo pipefail

python=${RENDER_PYTHON:-${SLURM_SUBMIT_DIR:-$PWD}/.venv/bin/python}
# Ports and directories are this job's own, because another job may run on the same nodes.
temporary=${RENDER_TEMPORARY:-/tmp/pareidolia-$SLURM_JOB_ID}
port=${RENDER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
dashboard=$((port + 20000))
cpus=${SLURM_CPUS_PER_TASK:-1}
patience=${RENDER_PATIENCE:-300} # longest wait for all nodes, s

say() { echo "render: $*" >&2; }

if [ ! -x "$python" ]; then
  say "$python: not there; make setup EXTRAS=cuda in the project's directory, on a file system that all nodes see"
  exit 2
fi
bin=$(dirname "$python")

# Ray accepts only clients and nodes that have the token. It is this job's own, and only the user can read it. Nodes get it
# in their environment, which Slurm passes on.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
# When the render is done, nodes may end quickly.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=5

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Address of the first node, for the others.
address=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname -I | awk '{print $1}')

# start NODE OPTIONS...: start Ray on one node, in the background, until this job ends.
started=()
start() {
  local node=$1
  shift
  # Port 0 means any free port.
  srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$node" "$bin/ray" start --block --disable-usage-stats \
    --num-cpus="$cpus" --dashboard-agent-listen-port=0 --dashboard-agent-grpc-port=0 \
    --min-worker-port=0 --max-worker-port=0 "$@" > "$temporary-$node.log" 2>&1 &
  started+=("$!")
}

finish() {
  trap - EXIT
  kill "${started[@]}" 2>/dev/null || true
  wait "${started[@]}" 2>/dev/null || true
}
trap finish EXIT

start "${nodes[0]}" --head --node-ip-address="$address" --port="$port" --temp-dir="$temporary" \
  --dashboard-host=127.0.0.1 --dashboard-port="$dashboard"
# Wait until the head answers: other nodes that start earlier would give up.
record=$temporary-${nodes[0]}.log
until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
  kill -0 "${started[0]}" 2>/dev/null || { say "Ray did not start on ${nodes[0]}: see $record"; exit 1; }
  [ "$SECONDS" -lt "$patience" ] || { say "Ray took over $patience s on ${nodes[0]}: see $record"; exit 1; }
  sleep 1
done
for node in "${nodes[@]:1}"; do start "$node" --address="$address:$port"; done

# USR1 comes shortly before the time limit (--signal above), TERM ends the job. Both make the render save; only USR1 queues
# the job again. A signal makes `wait` return, and then the trap runs.
render=
again=
# shellcheck disable=SC2329 # called by the traps
leave() {
  heard=yes
  say "$1"
  [ -z "$render" ] || kill -TERM "$render" 2>/dev/null || true
}
# shellcheck disable=SC2329
on_time() {
  again=yes
  leave "time is nearly up: saving, then queued again"
}
# shellcheck disable=SC2329
on_end() {
  again=
  leave "to be ended: saving"
}
# await: wait for $render and store its exit code in $code. A signal ends `wait`, not the render, with a code of its own, so
# wait again; 127 means that bash has already reported the code.
await() {
  local said
  code=
  while true; do
    heard=
    said=0
    wait "$render" || said=$?
    if [ "$said" != 127 ] || [ -z "$code" ]; then code=$said; fi
    [ -n "$heard" ] || break
  done
}
requeue() {
  finish
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap on_time USR1
trap on_end TERM

RENDER_WANTED=${#nodes[@]} RENDER_PATIENCE=$patience RAY_ADDRESS="$address:$port" "$python" - <<'PYTHON' &
import os, sys, time
import ray

ray.init(log_to_driver=False, logging_level="error")
wanted, patience = int(os.environ["RENDER_WANTED"]), float(os.environ["RENDER_PATIENCE"])
begun = time.monotonic()
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() - begun > patience:
        print(f"render: {there} of {wanted} nodes joined within {patience:.0f} s; going on with those", file=sys.stderr)
        break
    time.sleep(1)
PYTHON
render=$!
await
[ -z "$again" ] || requeue
[ "$code" = 0 ] || exit "$code"

"$python" -m render render "farm.address=$address:$port" "$@" &
render=$!
await
finish
# Queue the job again only if the render was interrupted (130), not if it failed.
if [ -n "$again" ] && [ "$code" = 130 ]; then requeue; fi
# Ray's logs are kept after an error.
if [ "$code" = 0 ]; then
  srun --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" rm -rf "$temporary" || true
  rm -f "$temporary"-*.log
fi
exit "$code"
