# What runs on the node: keeper-sim, and the product as a user would install it.
# shellcheck shell=bash

install_product() {
  local again=no
  if client helm status keeper-injector --namespace=keeper-security >/dev/null 2>&1; then again=yes; fi
  say "installing keeper-sim and the chart"
  client kubectl get namespace keeper-sim >/dev/null 2>&1 || client kubectl create namespace keeper-sim >/dev/null
  install_keeper keeper-sim default
  install_chart
  # The images have the tags that they had before.
  [[ $again == no ]] || restart_deployment keeper-security keeper-injector
}

install_chart() {
  client helm upgrade keeper-injector "$repo/chart/keeper-injector" --install --wait --timeout=2m \
    --namespace=keeper-security --create-namespace --values="$cluster_dir/manifests/values.yaml" >/dev/null
}

# install_keeper NAMESPACE [PODS]: a keeper-sim in a namespace, and in the namespace PODS (the same one, unless told) the Secret
# and the ConfigMap with which pods reach it.
install_keeper() {
  local namespace=$1 pods=${2:-$1} known=no
  if client kubectl get deployment keeper-sim --namespace="$namespace" >/dev/null 2>&1; then known=yes; fi
  client kubectl apply --namespace="$namespace" --filename="$cluster_dir/manifests/keeper-sim.yaml" >/dev/null
  if [[ $known == yes ]]; then restart_deployment "$namespace" keeper-sim; fi
  client kubectl rollout status deployment/keeper-sim --namespace="$namespace" --timeout=60s >/dev/null
  # The Service reaches a ready pod a moment later, and one that is gone a moment longer.
  wait_until 30 "keeper-sim in $namespace to answer" env KEEPER_SIM_NAMESPACE="$namespace" timeout 2 "$cluster_dir/keeper-sim" clients
  auth_objects "$namespace" | client kubectl apply --namespace="$pods" --filename=- >/dev/null
}

auth_objects() {
  local config ca
  config=$(KEEPER_SIM_NAMESPACE=$1 "$cluster_dir/keeper-sim" config)
  ca=$(KEEPER_SIM_NAMESPACE=$1 "$cluster_dir/keeper-sim" ca)
  jq --null-input --arg config "$config" --arg ca "$ca" '{apiVersion: "v1", kind: "List", items: [
    {apiVersion: "v1", kind: "Secret", metadata: {name: "keeper-auth"}, stringData: {config: $config}},
    {apiVersion: "v1", kind: "ConfigMap", metadata: {name: "keeper-ca"}, data: {"ca.crt": $ca}}]}'
}

restart_deployment() {
  client kubectl rollout restart "deployment/$2" --namespace="$1" >/dev/null
  client kubectl rollout status "deployment/$2" --namespace="$1" --timeout=120s >/dev/null
}
