//go:build unix

package transport

import (
	"net"
	"syscall"
)

// bindForOwner makes a socket that only its owner can connect to: until its mode is set, a process umask of 0 would let
// everybody in. The umask is the whole process's; a file that another goroutine creates meanwhile is its owner's too.
func bindForOwner(path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o077))
	return net.Listen("unix", path)
}
