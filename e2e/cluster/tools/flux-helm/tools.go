//go:build tools

// Package tools pins flux-helm for the end-to-end node.
package tools

import _ "github.com/fluxcd/helm-controller"
