//go:build !linux

package pgtest

import "syscall"

// dieWithParent does nothing: only Linux has a parent-death signal. Tests still end their server.
func dieWithParent(*syscall.SysProcAttr) {}
