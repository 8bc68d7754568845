// Package wxproxy holds what is shipped inside the binary: the quota tables.
package wxproxy

import _ "embed"

// LimitsYAML is the shipped limits.yaml. It is used when the configuration names no table of its
// own, and its profiles always exist beside those of a user's file.
//
//go:embed limits.yaml
var LimitsYAML []byte
