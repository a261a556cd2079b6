//go:build tools

// Package tools pins crane for the end-to-end node.
package tools

import _ "github.com/google/go-containerregistry/cmd/crane"
