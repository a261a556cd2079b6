# What the scripts of a release share: its tools, each built once in its pinned version, and its names.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source e2e/cluster/lib/common.sh
source e2e/cluster/lib/packages.sh
source e2e/cluster/lib/tools.sh

# What a release has of images.toml; the rest is for tests.
release_images=(webhook sidecar)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

say() { printf 'release: %s\n' "$*" >&2; }

# use TOOL...: on PATH from here on.
use() {
  tools=("$@")
  build_tools
  use_tools
}
