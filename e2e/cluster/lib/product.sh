# What runs on the node: keeper-sim, and the product as a user would install it.
# shellcheck shell=bash

install_product() {
  local before=no
  if node_network helm status keeper-injector --namespace=keeper-security >/dev/null 2>&1; then before=yes; fi
  install_keeper keeper-sim
  node_network kubectl create secret generic keeper-auth --from-literal=config="$(keeper keeper-sim config)" \
    --dry-run=client --output=yaml | node_network kubectl apply --filename=- >&2
  node_network helm upgrade keeper-injector "$repo/chart/keeper-injector" --install --wait --timeout=2m \
    --namespace=keeper-security --create-namespace --values="$cluster_dir/manifests/values.yaml" >&2
  # The tag is the same, the image may not be.
  [[ $before == no ]] || restart keeper-security
}

# install_keeper NAMESPACE: a keeper-sim of its own.
install_keeper() {
  node_network kubectl create namespace "$1" --dry-run=client --output=yaml | node_network kubectl apply --filename=- >&2
}
