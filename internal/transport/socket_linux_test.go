package transport_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openFolder is a folder that everybody may enter: what keeps a peer out is the socket.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// From the instant it is there, a socket admits nobody whom its mode does not, whatever the umask.
func TestSocketIsNeverMoreOpenThanItsMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(openFolder(t), "s")
	stop, seen := make(chan struct{}), make(chan os.FileMode)
	go func() {
		var all os.FileMode // that the socket ever had
		for {
			select {
			case <-stop:
				seen <- all
				return
			default:
			}
			if info, err := os.Lstat(path); err == nil {
				all |= info.Mode().Perm()
			}
		}
	}()
	for range 500 {
		if err := listen(t, "unix://"+path, "0600", 1).Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if all := <-seen; all&0o600 != 0o600 || all&0o077 != 0 {
		t.Errorf("the socket had %s", all)
	}
}

// The kernel refuses a peer whom the mode does not admit.
func TestSocketOfAnotherUser(t *testing.T) {
	socket := func(mode string) string {
		path := filepath.Join(openFolder(t), "s")
		listen(t, "unix://"+path, mode, 1)
		return path
	}
	if os.Getuid() != 0 { // nobody but root can be another user; the owner can be shut out
		_, err := net.Dial("unix", socket("0066"))
		refused(t, err)
		return
	}
	refused(t, dialAsNobody(socket("0600")))
	refused(t, dialAsNobody(socket("0660")))
	if err := dialAsNobody(socket("0666")); err != nil {
		t.Errorf("a socket for everybody: %v", err)
	}
}

func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, syscall.EACCES) {
		t.Errorf("got %v, want permission denied", err)
	}
}

// dialAsNobody connects as another user. Only its thread is that user, and ends with it.
func dialAsNobody(path string) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		const nobody = 65534
		if _, err := unix.SetfsgidRetGid(nobody); err != nil {
			failed <- err
			return
		}
		if _, err := unix.SetfsuidRetUid(nobody); err != nil {
			failed <- err
			return
		}
		connection, err := net.Dial("unix", path)
		if err == nil {
			err = connection.Close()
		}
		failed <- err
	}()
	return <-failed
}
