# What the node takes from Debian.
# shellcheck shell=bash

packages=(
  busybox-static conntrack containerd containernetworking-plugins etcd-client etcd-server
  iproute2 iptables jq nginx openssl procps runc util-linux
)

# Installs what is missing, and nothing when all is there.
install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || die "not root, and these packages are missing: ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get update -qq
  without_services env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The node runs etcd and containerd itself; the machine's own are not wanted.
without_services() (
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  "$@"
)
