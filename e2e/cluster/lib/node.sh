# The node's life: it runs in namespaces of its own, as the children of one supervisor (node/supervisor), so that
# ending that one process ends everything.
# shellcheck shell=bash

supervisor_file=$state/supervisor
# Named after the state folder, so that nodes of two checkouts don't share one.
cgroup=keeper-node-$(cksum <<<"$state" | cut -d' ' -f1)

# A process is the recorded one only if it also started when that one did: ids are used again.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }
is_process() { [[ -n ${2:-} && $(started_at "$1") == "$2" ]]; }

node_is_up() {
  local pid start
  [[ -f $supervisor_file ]] && read -r pid start <"$supervisor_file" && is_process "$pid" "$start"
}

supervisor_pid() {
  local pid
  node_is_up || die "no node is up: e2e/cluster/cluster up"
  read -r pid _ <"$supervisor_file"
  printf '%s' "$pid"
}

# Runs a command among the node's processes.
in_node() { enter --net --mount --pid --uts -- "$@"; }
# Runs a client of the cluster: only its network is the node's.
client() { enter --net -- "$@"; }

# What kubectl and helm keep for the next time is the node's too.
enter() {
  local pid
  pid=$(supervisor_pid) || exit 1
  KUBECONFIG=$state/kubeconfig KUBECACHEDIR=$state/kubectl HELM_CACHE_HOME=$state/helm HELM_CONFIG_HOME=$state/helm \
    HELM_DATA_HOME=$state/helm nsenter --target "$pid" --wd="$PWD" "$@"
}

start_node() {
  ((EUID == 0)) || die "a node needs root"
  stop_node
  say "starting the node"
  mkdir -p "$state/log"
  make_cgroup
  CLUSTER_STATE=$state CLUSTER_CGROUP=$cgroup setsid unshare --net --mount --pid --uts --fork --kill-child --mount-proc \
    "$cluster_dir/node/supervisor" >"$state/log/supervisor" 2>&1 </dev/null &
  record_supervisor $!
  wait_until_ready
}

# The supervisor is the child of unshare: PID 1 of the node.
record_supervisor() {
  local unshare=$1 pid
  wait_until 10 "the supervisor's start" pgrep --parent "$unshare"
  pid=$(pgrep --parent "$unshare")
  printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$supervisor_file"
}

wait_until_ready() {
  local end=$((SECONDS + 120))
  until [[ -f $state/ready ]]; do
    if ! node_is_up || ((SECONDS > end)); then
      show_logs
      die "the node did not come up"
    fi
    sleep 0.1
  done
}

stop_node() {
  local pid start
  if node_is_up; then
    read -r pid start <"$supervisor_file"
    say "ending the node"
    kill -KILL "$pid"
    # The rest of a pid namespace is ended, and waited for, before its first process goes.
    while is_process "$pid" "$start"; do sleep 0.1; done
  fi
  remove_cgroup
  [[ ! -d $state/log ]] || rm -rf "$state"
}

# The kubelet wants its root cgroup to exist: one directory in each v1 hierarchy, or one in the v2 tree.
cgroup_hierarchies() { awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/self/mounts; }
make_cgroup() {
  local hierarchy
  for hierarchy in $(cgroup_hierarchies); do
    mkdir -p "$hierarchy/$cgroup"
    # A new cpuset is empty, and takes no process before it is told what it has.
    if [[ -f $hierarchy/$cgroup/cpuset.cpus && -z $(<"$hierarchy/$cgroup/cpuset.cpus") ]]; then
      cat "$hierarchy/cpuset.cpus" >"$hierarchy/$cgroup/cpuset.cpus"
      cat "$hierarchy/cpuset.mems" >"$hierarchy/$cgroup/cpuset.mems"
    fi
  done
}
remove_cgroup() {
  local hierarchy
  for hierarchy in $(cgroup_hierarchies); do
    [[ -d $hierarchy/$cgroup ]] || continue
    find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} +
  done
}

# What tells most when something went wrong.
show_logs() {
  local log
  if node_is_up; then
    client kubectl get pods --all-namespaces --output=wide || true
    client kubectl get events --all-namespaces --sort-by=.lastTimestamp | tail -n 40 || true
    client kubectl logs --namespace=keeper-security --selector=app.kubernetes.io/name=keeper-injector --tail=40 || true
  fi >&2
  for log in "$state"/log/*; do
    [[ -s $log && $log != */audit ]] || continue
    printf '== %s\n' "$log" >&2
    tail -n 15 "$log" >&2
  done
}
