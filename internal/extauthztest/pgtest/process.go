package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ready is what postgres logs when it accepts connections.
const ready = "database system is ready to accept connections"

// process is a running postgres.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has been waited for
}

// start runs postgres in the foreground and returns when it is ready.
func start(cmd *exec.Cmd) (*process, error) {
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started, said := make(chan error, 1), make(chan string, 1)
	go p.run(log, started, said)
	if err := <-started; err != nil {
		return nil, err
	}
	select {
	case refusal := <-said:
		if refusal == "" {
			return p, nil
		}
		return nil, errors.Join(errors.New(refusal), p.end())
	case <-time.After(patience):
		return nil, errors.Join(fmt.Errorf("not ready after %v", patience), p.end())
	}
}

// run starts the process and waits for it. It keeps its thread: the kernel sends the parent-death
// signal when the thread that started the process ends, not the program.
func (p *process) run(log io.Reader, started chan<- error, said chan<- string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	follow(log, said)
	_ = p.cmd.Wait() // how it ended does not matter, only that it did
	close(p.ended)
}

// follow reads the log to its end. It says "" when the server is ready, or the log if it ends first.
func follow(log io.Reader, said chan<- string) {
	var text strings.Builder
	up := false
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		switch {
		case up:
		case strings.Contains(lines.Text(), ready):
			up = true
			said <- ""
		default:
			fmt.Fprintln(&text, lines.Text())
		}
	}
	if !up {
		said <- "it ended:\n" + text.String()
	}
}

// end ends the process by its id: SIGINT makes postgres drop its connections and close its files. A
// nil process has ended.
func (p *process) end() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT) // fails only if it has ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("still running %v after SIGINT: killed", patience)
	}
}

// owner is whom to run as: PostgreSQL refuses root. nil is the present user.
func owner() (*syscall.Credential, error) {
	if syscall.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if account, err := user.Lookup(name); err == nil {
			return credential(account)
		}
	}
	return nil, errors.New("PostgreSQL refuses root, and there is no user postgres or nobody to run it as")
}

func credential(account *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
