# The images, from the archives that `images/build` writes to dist/, in the registry inside the node.
# shellcheck shell=bash

dist=$repo/dist

# What test pods run is made here when it is missing; the product's images are the caller's to build.
push_images() {
  local archive image test_images=()
  for image in busybox pause nginx; do
    [[ -f $dist/$image.tar ]] || test_images+=("$image")
  done
  ((${#test_images[@]} == 0)) || "$repo/images/build" "${test_images[@]}" >&2
  for archive in "$dist"/*.tar; do
    push_image "$archive"
  done
  forget_images
  # The same binary, for e2e/cluster/keeper-sim.
  client crane export 127.0.0.1:5000/keeper/sim - | tar -xf - -C "$state" keeper-sim
}

# push_image ARCHIVE: under the name that the archive gives, without its registry, and as latest.
push_image() {
  local layout name
  layout=$(mktemp -d "$state/image.XXXXXX")
  tar -xf "$1" -C "$layout"
  name=$(jq -r '.manifests[0].annotations["io.containerd.image.name"]' "$layout/index.json")
  client crane push "$layout" "127.0.0.1:5000/${name#*/}" >/dev/null 2>&1 || die "can't push $name from $1"
  client crane tag "127.0.0.1:5000/${name#*/}" latest 2>/dev/null
  rm -r "$layout"
}

# push_test_image NAME: a further one for some tests, which isn't kept.
push_test_image() {
  "$repo/images/build" --out "$state/images" "$1" >&2
  push_image "$state/images/$1.tar"
  rm -r "$state/images"
}

# What the node pulled before is out of date when an image of that name was pushed again.
forget_images() {
  local name
  for name in $(in_node ctr --namespace=k8s.io images ls -q 'name~="keeper/"'); do
    in_node ctr --namespace=k8s.io images rm "$name" >/dev/null
  done
}
