//go:build tools

// Package tools pins the Prometheus operator for the end-to-end node.
package tools

import _ "github.com/prometheus-operator/prometheus-operator/cmd/operator"
