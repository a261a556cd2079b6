//go:build tools

// Package tools pins flux-source for the end-to-end node.
package tools

import _ "github.com/fluxcd/source-controller"
