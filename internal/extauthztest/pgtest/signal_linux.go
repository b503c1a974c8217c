package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Kill ends the server and every process of it with SIGKILL, as a power cut does: nothing is closed or told. Start
// recovers it.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	ended := s.process.ended
	s.signal(t, syscall.SIGKILL)
	<-ended
	s.process = nil
}

// Freeze stops every process of the server until Thaw: its connections stay open, and nothing answers.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Thaw ends what Freeze began.
func (s *Server) Thaw(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

// signal sends a signal to the postmaster first, so that it starts no others, and then to its children, each of which has
// a process group of its own.
func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	parent := s.process.cmd.Process.Pid
	children, err := childrenOf(parent)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if err := syscall.Kill(parent, signal); err != nil {
		t.Errorf("pgtest: signal postgres: %v", err)
	}
	for _, child := range children {
		_ = syscall.Kill(child, signal) // fails only if it has ended
	}
}

// childrenOf finds the processes whose parent is the given one.
func childrenOf(parent int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent: the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		children = append(children, pid)
	}
	return children, nil
}
