//go:build tools

// Package tools pins cosign, which signs and verifies images.
package tools

import _ "github.com/sigstore/cosign/v3/cmd/cosign"
