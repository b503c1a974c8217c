package envoyproc

import "syscall"

// endWithParent makes the kernel kill Envoy when its parent dies, however that happens: a test binary that panics or runs
// into its time limit runs no cleanup.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
