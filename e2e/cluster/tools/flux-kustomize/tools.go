//go:build tools

// Package tools pins flux-kustomize for the end-to-end node.
package tools

import _ "github.com/fluxcd/kustomize-controller"
