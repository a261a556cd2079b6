# What runs on the node: keeper-sim, and the product as a user would install it.
# shellcheck shell=bash

install_product() { say "no product yet"; }
