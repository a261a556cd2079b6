#!/usr/bin/env bash
# Is the installation good? Two pods with `kubectl run`: one that only authenticates, one that prints a record.
#
#   examples/smoke-test.sh [RECORD TITLE]
#
# Needs: the Secret `keeper-auth` in the current namespace. Without a title only the first pod is run.
# KUBECTL names another kubectl. Both pods are deleted at the end.
set -euo pipefail

kubectl=${KUBECTL:-kubectl}
title=${1:-}

cleanup() {
  $kubectl delete pod test test-secret --ignore-not-found --now "$@" >/dev/null 2>&1 || true
}
explain() {
  echo "failed; what Kubernetes says about the pod:" >&2
  $kubectl describe pod "$1" >&2 || true
  exit 1
}
# The app's container exists only once the injected ones have done their part.
app_started() {
  for _ in $(seq 60); do
    [ -z "$($kubectl get pod "$1" -o jsonpath='{.status.containerStatuses[0].containerID}')" ] || return 0
    sleep 1
  done
  return 1
}
trap 'cleanup --wait=false' EXIT
cleanup

echo "1. a pod that asks for injection and selects nothing: it authenticates to Keeper, once"
$kubectl run test --image=busybox --annotations=keeper.security/inject=true --annotations=keeper.security/ksm-config=keeper-auth
app_started test || explain test
echo "   injected: $($kubectl get pod test -o jsonpath='{.spec.initContainers[*].name}'), and it has authenticated"

[ -n "$title" ] || exit 0

echo "2. a pod that is given the record \"$title\""
$kubectl run test-secret --image=busybox --restart=Never --annotations=keeper.security/inject=true --annotations=keeper.security/ksm-config=keeper-auth "--annotations=keeper.security/secret=$title:/keeper/secrets/record.json" -- cat /keeper/secrets/record.json
$kubectl wait pod/test-secret --timeout=60s --for=jsonpath='{.status.phase}'=Succeeded ||
  explain test-secret
bytes=$($kubectl logs test-secret -c test-secret | wc -c)
[ "$bytes" -gt 2 ] || explain test-secret
echo "   the app read $bytes bytes"
