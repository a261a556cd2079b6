# Kinds of others that the chart makes objects of when it is asked to: their definitions, from the Go modules of their
# operators, without the operators.
# shellcheck shell=bash

definitions=(
  github.com/kedacore/keda/v2@v2.17.2/config/crd/bases/keda.sh_scaledobjects.yaml
  github.com/external-secrets/external-secrets@v0.19.2/config/crds/bases/external-secrets.io_externalsecrets.yaml
)

install_definitions() {
  local definition kept
  for definition in "${definitions[@]}"; do
    kept=$cache/definitions/${definition//\//_}
    [[ -f $kept ]] || keep_definition "$definition" "$kept"
    client kubectl apply --server-side --filename="$kept" >/dev/null
    # kubectl's own wait fails if it looks before there is any condition.
    wait_until 30 "the kind of $definition" client kubectl wait --for=condition=Established --timeout=1s --filename="$kept"
  done
}

keep_definition() {
  local definition=$1 kept=$2 module directory
  [[ $definition =~ ^(.*@v[0-9.]+)/(.*)$ ]]
  module=${BASH_REMATCH[1]}
  say "fetching ${BASH_REMATCH[2]##*/} of $module (once)"
  directory=$(cd / && go mod download -json "$module" | jq --raw-output --exit-status .Dir)
  mkdir -p "$(dirname "$kept")"
  # Whole or not at all.
  install --mode=644 "$directory/${BASH_REMATCH[2]}" "$kept.$$"
  mv "$kept.$$" "$kept"
}
