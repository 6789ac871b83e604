#!/usr/bin/env bash
# A command of forkdiv on the nodes of a Slurm allocation. From the repository's root, which all
# nodes see at the same path, with its environment in .venv (`make setup`):
#
#   sbatch --nodes=2 --gpus-per-node=4 cluster/slurm.sh \
#     python -m jobs.study --config quickstart place.root=$SCRATCH/runs place.device=gpu
#
# Ray's head is the first node of the allocation, and works like the others. The command runs there,
# joins the Ray of this job by RAY_ADDRESS, and its status is the status of the job. All of Ray ends
# with it, also at the time limit and with `scancel`.
#
# FORKDIV_ENV        the environment, if it is not .venv
# FORKDIV_INTERFACE  the network interface of the nodes for Ray, such as ib0; the first if not set
# FORKDIV_JOIN_S     seconds that the nodes have to join, 300 if not set
#
#SBATCH --job-name=forkdiv
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:TERM@60
#SBATCH --output=forkdiv-%j.log
set -euo pipefail

refuse() {
  echo "slurm.sh: $1" >&2
  exit 2
}

[ $# -gt 0 ] || refuse "no command; add one: sbatch cluster/slurm.sh python -m jobs.study --config quickstart"
[ -n "${SLURM_JOB_ID:-}" ] || refuse "not in a Slurm job; start it with sbatch, or with bash inside salloc"
environment=${FORKDIV_ENV:-${SLURM_SUBMIT_DIR:-$PWD}/.venv}
[ -x "$environment/bin/ray" ] || refuse "no environment in $environment; run \`make setup\`, or set FORKDIV_ENV"
export PATH=$environment/bin:$PATH

# Ports by the job's number, since two jobs can share a node: below the ports that the system gives
# to clients (32768), above those that Ray gives to its workers (19999).
base=$((20000 + SLURM_JOB_ID % 2000 * 5))
gcs=$base dashboard=$((base + 1)) agent=$((base + 2))
# Short: Ray's sockets are inside, and their paths have at most 107 characters.
temporary=/tmp/ray-$SLURM_JOB_ID

# A token for this job, in the environment of its processes only. Without it, everyone on the
# cluster's network could run code here.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
mapfile -t nodes <<<"$names"
head=${nodes[0]}
# Steps get this script's environment, also where SBATCH_EXPORT says otherwise.
export SLURM_EXPORT_ENV=ALL

# Prints the address of the node it runs on.
address_of_node='
  if [ -n "${FORKDIV_INTERFACE:-}" ]; then
    ip -4 -o address show dev "$FORKDIV_INTERFACE" | sed -n "s/.* inet \([0-9.]*\).*/\1/p;q"
  else
    hostname -I | cut -d " " -f 1
  fi'
on_head=(--nodes=1 --ntasks=1 "--nodelist=$head")
address=$(srun "${on_head[@]}" bash -c "$address_of_node")
[ -n "$address" ] || refuse "no IPv4 address on $head; set FORKDIV_INTERFACE to one of its interfaces"
export RAY_ADDRESS=$address:$gcs

steps=()
driver=
end() {
  status=$?
  trap '' TERM INT
  trap - EXIT
  for process in $driver "${steps[@]}"; do kill -TERM "$process" 2>/dev/null || true; done
  for process in $driver "${steps[@]}"; do wait "$process" 2>/dev/null || true; done
  if [ "$status" = 0 ]; then
    srun "--nodes=${#nodes[@]}" "--ntasks=${#nodes[@]}" --ntasks-per-node=1 rm -rf "$temporary" || true
  else
    echo "slurm.sh: status $status; Ray's logs are in $temporary/session_latest/logs on each node" >&2
  fi
  exit "$status"
}
trap end EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# Evaluated on each node. --block keeps the step alive, and what ends the step ends Ray: `ray stop`
# would end every Ray of this user on the node.
start='
  ulimit -Sn 65536 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
  exec ray start --block --disable-usage-stats "--node-ip-address=$('$address_of_node')" \
    "--num-cpus=${SLURM_CPUS_ON_NODE:-$(nproc)}" "--num-gpus=${SLURM_GPUS_ON_NODE:-0}" "$@"'
srun "${on_head[@]}" bash -c "$start" start --head "--port=$gcs" "--temp-dir=$temporary" \
  --dashboard-host=127.0.0.1 "--dashboard-port=$dashboard" \
  "--dashboard-agent-listen-port=$agent" --ray-client-server-port="$((base + 3))" &
steps+=($!)
if [ "${#nodes[@]}" -gt 1 ]; then
  others=$((${#nodes[@]} - 1))
  # workers that start before the head wait for it
  srun "--nodes=$others" "--ntasks=$others" --ntasks-per-node=1 "--exclude=$head" bash -c '
    until (exec 3<>"/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS##*:}") 2>/dev/null; do sleep 1; done
    '"$start" \
    start "--address=$RAY_ADDRESS" "--dashboard-agent-listen-port=$((base + 4))" &
  steps+=($!)
fi

# Waits for the driver, and ends the job if the head ends before it.
await_driver() {
  while kill -0 "$driver" 2>/dev/null; do
    if ! kill -0 "${steps[0]}" 2>/dev/null; then
      echo "slurm.sh: Ray's head on $head ended; its messages are above" >&2
      exit 1
    fi
    sleep 1 &
    wait $! # a trap interrupts `wait`, but not `sleep`
  done
  wait "$driver"
}

python - "${#nodes[@]}" "${FORKDIV_JOIN_S:-300}" <<'PYTHON' &
import sys
import time

import ray

wanted, seconds = int(sys.argv[1]), float(sys.argv[2])
deadline = time.monotonic() + seconds
alive = 0
while alive < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"slurm.sh: {alive} of {wanted} nodes joined Ray within {seconds:g} s")
    time.sleep(1)
    try:
        if not ray.is_initialized():
            ray.init(logging_level="ERROR", log_to_driver=False)
        alive = sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, RuntimeError):  # the head is not ready yet
        continue
PYTHON
driver=$!
await_driver
echo "slurm.sh: ${#nodes[@]} nodes joined Ray at $RAY_ADDRESS; dashboard on $head: http://127.0.0.1:$dashboard"

"$@" &
driver=$!
await_driver
