package pgtest

import "syscall"

// dieWithParent makes the kernel end the process when this one dies: SIGQUIT is postgres's immediate
// shutdown, which takes its own children along.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGQUIT }
