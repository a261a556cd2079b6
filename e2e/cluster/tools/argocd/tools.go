//go:build tools

// Package tools pins argocd for the end-to-end node.
package tools

import _ "github.com/argoproj/argo-cd/v3/cmd"
