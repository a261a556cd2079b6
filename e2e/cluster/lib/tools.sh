# What the node takes from Go modules: one module for each tool under tools/, so that their requirements don't
# fight. The one `require` line of its own pins the tool; for Kubernetes, `cluster pin` writes it.
# shellcheck shell=bash

tools=(kubernetes helm coredns crane)
# A quarter of an hour to build, so that only who asks for them has them: `cluster gitops`.
gitops_tools=(argocd flux-source flux-kustomize flux-helm)

tool_version() { awk '$1 == "require" && $2 != "(" { sub(/^v/, "", $3); print $3; exit }' "$cluster_dir/tools/$1/go.mod"; }
tool_dir() { printf '%s/%s-%s' "$cache" "$1" "$(tool_version "$1")"; }

# Builds each tool that is not in the cache in its pinned version.
build_tools() {
  local tool
  for tool in "${tools[@]}"; do
    [[ -d $(tool_dir "$tool") ]] || build_tool "$tool"
  done
}

use_tools() {
  local tool
  for tool in "${tools[@]}" "${gitops_tools[@]}"; do PATH=$(tool_dir "$tool"):$PATH; done
  export PATH
}

build_tool() {
  local tool=$1 version building flags='-s -w' imports=()
  version=$(tool_version "$tool")
  say "building $tool $version (once; Kubernetes takes minutes)"
  if [[ $tool == kubernetes ]]; then
    # Without these the server calls itself v0.0.0.
    local package=k8s.io/component-base/version major=${version%%.*} rest=${version#*.}
    flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=$major -X $package.gitMinor=${rest%%.*}"
  fi
  mkdir -p "$cache"
  building=$(mktemp -d "$cache/.$tool.XXXXXX")
  (
    cd "$cluster_dir/tools/$tool"
    # -e: what tools.go names are programs, which go list takes for a mistake.
    mapfile -t imports < <(go list -e -tags tools -f '{{join .Imports "\n"}}' .)
    CGO_ENABLED=0 nice go build -trimpath -ldflags "$flags" -o "$building/" "${imports[@]}"
    # Go names a program after its folder.
    [[ ! -f $building/cmd ]] || mv "$building/cmd" "$building/$tool"
    keep_definitions "$tool" "$building"
  )
  # Whole or not at all; where another checkout was faster, its result is as good.
  mv --no-target-directory "$building" "$(tool_dir "$tool")" 2>/dev/null || rm -r "$building"
}

# The definitions of a tool's own kinds, from where its module has them, beside its binary.
keep_definitions() {
  local tool=$1 folder=$2 module path
  case $tool in
    prometheus-operator) path=example/prometheus-operator-crd ;;
    argocd) path=manifests/crds ;;
    flux-*) path=config/crd/bases ;;
    *) return 0 ;;
  esac
  module=$(awk '$1 == "require" && $2 != "(" { print $2; exit }' go.mod)
  install --mode=644 "$(go list -m -f '{{.Dir}}' "$module")/$path"/*.yaml "$folder/"
  # It only lists the others.
  rm -f "$folder/kustomization.yaml"
}

# Writes tools/kubernetes/go.mod for another version. Kubernetes' own go.mod requires its staging modules at v0.0.0
# and replaces them by local folders; here each is replaced by its release v0.<minor>.<patch>.
pin_kubernetes() {
  local version=${1:?the Kubernetes version, like 1.35.4} source replaces
  source=$(cd / && go mod download -json "k8s.io/kubernetes@v$version" | jq -r .GoMod)
  mapfile -t replaces < <(awk -v release="v0.${version#*.}" \
    '$2 == "=>" && $3 ~ /^\.\/staging\// { print "-replace=" $1 "=" $1 "@" release }' "$source")
  cd "$cluster_dir/tools/kubernetes"
  rm -f go.mod go.sum
  go mod init cluster
  go mod edit "-go=$(awk '$1 == "go" { print $2 }' "$source")" "-require=k8s.io/kubernetes@v$version" "${replaces[@]}"
  go mod tidy
}
