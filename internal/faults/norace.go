//go:build !race

package faults

// Race reports whether this program was built with the race detector.
const Race = false
