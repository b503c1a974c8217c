//go:build !linux

package envoyproc

import "syscall"

// endWithParent has no equivalent outside Linux: there only Stop and the context end Envoy.
func endWithParent() *syscall.SysProcAttr { return nil }
