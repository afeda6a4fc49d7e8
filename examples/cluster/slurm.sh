#!/bin/bash
# A search on the nodes of a Slurm job: Ray's head on the first node, a Ray worker on each other one.
#
#     sbatch examples/cluster/slurm.sh data=/shared/pets.yaml model=yolo11n.yaml epochs=50 iterations=100
#
# The words are those of `tunekit tune`; resume=FOLDER goes on with an earlier search. Before the time limit
# the search is ended in good order and the job is queued anew; it then goes on from where it was.
# What must be so: python and ray are on PATH on every node (submit with the environment activated), and
# PROJECT, the data and the folder that you submit from are on a disk that all nodes share.

#SBATCH --job-name=tunekit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --mem=0
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

project=${PROJECT:-/shared/runs/tune}
# Per job: nodes may be shared with other people's Ray. Short, as sockets lie in it.
scratch=/tmp/ray-$SLURM_JOB_ID
port=$((20000 + SLURM_JOB_ID % 10000))
# HEAD_IP is for nodes with several networks: the address of the first node on the one to use.
ip=${HEAD_IP:-$(python -c 'import ray.util; print(ray.util.get_node_ip_address())')}
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")

# The whole cluster is this job's: a new token each time, in the environment that srun hands on.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_USAGE_STATS_ENABLED=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # nodes are stopped after the search: nothing to wait for
unset RAY_ADDRESS

steps=() # process ids of the sruns that hold Ray's nodes
search=  # ... of the search
ending=
heard=
again=

# shellcheck disable=SC2329 # the trap calls it
end() {
    ending=yes
    heard=yes
    if [[ -n $search ]]; then
        kill -TERM "$search" 2>/dev/null || true
    fi
}
# Both to this shell only: USR1 before the time limit, TERM by `scancel --batch --signal=TERM JOB`, which stops
# the search for good. A plain scancel ends Ray with the search, as a power cut would; resume= copes with that.
trap 'again=yes; end' USR1
trap end TERM INT

# --cpus-per-task: srun does not take it from the job. --overlap: the steps share the nodes.
on_each=(
    srun --export=ALL --overlap --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK"
    --output="ray-$SLURM_JOB_ID.log" --open-mode=append
)
# --num-cpus: Ray would count the node's cores, not the job's. Images do not go through its store.
ray_node=(
    ray start --num-cpus="$SLURM_CPUS_PER_TASK" --temp-dir="$scratch" --object-store-memory=200000000 --block
)

stop_ray() {
    trap '' USR1 TERM INT
    if ((${#steps[@]})); then
        kill -TERM "${steps[@]}" 2>/dev/null || true
        wait "${steps[@]}" || true
    fi
    "${on_each[@]}" --nodes="${#hosts[@]}" --ntasks="${#hosts[@]}" rm -rf "$scratch" || rm -rf "$scratch"
}
trap stop_ray EXIT

fail() {
    echo "error: $1" >&2
    exit 1
}

"${on_each[@]}" --nodes=1 --ntasks=1 --nodelist="${hosts[0]}" \
    "${ray_node[@]}" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false &
steps+=($!)
until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
    kill -0 "${steps[0]}" 2>/dev/null || fail "Ray's head did not come up on ${hosts[0]}; see ray-$SLURM_JOB_ID.log"
    sleep 1
done
if ((${#hosts[@]} > 1)); then
    others=$((${#hosts[@]} - 1))
    "${on_each[@]}" --nodes="$others" --ntasks="$others" --exclude="${hosts[0]}" \
        "${ray_node[@]}" --address="$ip:$port" &
    steps+=($!)
fi
# A search counts the nodes when it starts.
python - "$ip:$port" "${#hosts[@]}" <<'END' || fail "not all of ${hosts[*]} joined Ray in five minutes; see ray-$SLURM_JOB_ID.log"
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + 300
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    if time.monotonic() > end:
        sys.exit(1)
    time.sleep(1)
END

run=$project/$SLURM_JOB_NAME-$SLURM_JOB_ID # a job that was queued anew has the same number
if [[ -f $run/args.yaml ]]; then
    set -- resume="$run"
elif [[ " $*" != *" resume="* ]]; then
    set -- project="$project" name="${run##*/}" "$@"
fi
code=0
if [[ -z $ending ]]; then
    python -u -m tunekit tune "$@" address="$ip:$port" &
    search=$!
    heard=yes
    while [[ -n $heard ]]; do # a signal ends the wait, not the search; a second wait tells how that ended
        heard=
        code=0
        wait "$search" || code=$?
    done
fi

stop_ray
trap - EXIT
if [[ -n $again && ($code == 130 || -z $search) ]]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
