//go:build tools

// Package tools pins helm for the end-to-end node.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
