//go:build !linux

package main

import (
	"os"
	"os/exec"
	"testing"
)

// terminal skips: pseudo-terminals are opened in another way here.
func terminal(t *testing.T, _ string) *os.File {
	t.Helper()
	_, slave := pseudoTerminal(t)
	return slave
}

func pseudoTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	t.Skip("NOT TESTED: pseudo-terminals are opened only on Linux")
	return nil, nil
}

func resize(*testing.T, *os.File, uint16) {}

func control(*exec.Cmd) {}
