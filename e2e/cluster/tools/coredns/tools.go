//go:build tools

// Package tools pins coredns for the end-to-end node.
package tools

import _ "github.com/coredns/coredns"
