//go:build !unix

package main

import "syscall"

const canPeek = false

func clientGone(syscall.RawConn) bool { return false }
