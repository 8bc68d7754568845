//go:build race

package faults

// Race reports whether this program was built with the race detector. Tests that drive the built program are skipped
// then: its process is another, and has no race detector.
const Race = true
