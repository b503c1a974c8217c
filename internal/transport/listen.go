// Package transport decides who may open a connection to a listener and how many may be open: the permissions of a Unix
// socket, the identity that the listener shows, the client certificates that it takes.
//
// It trusts the files that the operator names. What a connected peer may ask, how much and how fast, is left to those who
// serve the listener.
package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

// Listen opens host:port, or unix:///path with the given octal mode: only peers that may write to the socket can connect.
// At most maxConnections are open at once; a further peer waits in the kernel's queue until one closes.
func Listen(address, mode string, maxConnections int) (net.Listener, error) {
	listener, err := open(address, mode)
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(direct(listener), maxConnections), nil
}

func open(address, mode string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix://")
	if !unix {
		return net.Listen("tcp", address)
	}
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", address, err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := bindForOwner(path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, fs.FileMode(bits)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// removeStale removes the socket that a killed process left behind, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen unix://%s: the file exists and is no socket", path)
	}
	connection, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen unix://%s: another process listens there", path), connection.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Exposed reports whether peers on other machines can reach the address of a listener.
func Exposed(at net.Addr) bool {
	tcp, ok := at.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}
