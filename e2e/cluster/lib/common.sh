# Places and small helpers that the other parts share.
# shellcheck shell=bash

repo=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../../..")
cluster_dir=$repo/e2e/cluster
# All that the node leaves on disk while it runs: ids, logs, kubeconfig.
state=${KEEPER_CLUSTER:-$repo/target/cluster}
# Built binaries, one directory for each tool and version; shared by all checkouts.
cache=${KEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keeper-injector}

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# wait_until SECONDS WHAT COMMAND...: polls until COMMAND succeeds; dies with what it waited for.
wait_until() {
  local seconds=$1 what=$2 end
  shift 2
  end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "after $seconds s still waiting for $what"
    sleep 0.1
  done
}
