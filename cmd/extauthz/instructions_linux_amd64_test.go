//go:build !race

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// instructionBudget is how many instructions a warm, allowed check may take, metrics included, gRPC's own work and SHA-256
// not: what that takes depends on the CPU. Time is not stable where tests run; this is.
const instructionBudget = 48_000

// instructionsVariable makes a test process the one whose instructions are counted.
const instructionsVariable = "EXTAUTHZ_TEST_INSTRUCTIONS"

// countedChecks is how many checks are counted, each by itself.
const countedChecks = 3

// TestInstructions counts what a check executes, one instruction after the other (ptrace): virtual machines have no counters
// for it. Of the other process nothing runs meanwhile but the thread that checks, so that two counts hardly differ.
func TestInstructions(t *testing.T) {
	if os.Getenv(instructionsVariable) != "" {
		runChecks(t)
		return
	}
	counts, functions := countInstructions(t)
	t.Logf("instructions of %d checks: %d, without SHA-256", countedChecks, counts)
	for _, f := range functions[:min(60, len(functions))] {
		t.Logf("%6d %s", f.count/countedChecks, f.name)
	}
	slices.Sort(counts)
	if median := counts[len(counts)/2]; median > instructionBudget {
		t.Errorf("%d instructions a check, more than %d", median, instructionBudget)
	}
}

// runChecks checks once it is told to, and marks where each check begins and the last one ends.
func runChecks(t *testing.T) {
	check := hotServer(t, 1)
	for range 200 {
		check(0)
	}
	runtime.LockOSThread()
	fmt.Println("thread", syscall.Gettid())
	var told [1]byte
	if _, err := syscall.Read(0, told[:]); err != nil {
		t.Fatal(err)
	}
	mark()
	for range countedChecks {
		check(0)
		mark()
	}
}

// mark is a system call that nobody else makes.
func mark() { _, _, _ = syscall.RawSyscall(syscall.SYS_GETPGRP, 0, 0, 0) }

// function is a function and how many of its instructions were executed.
type function struct {
	name  string
	count int
}

// countInstructions starts a process of this binary and returns the instructions of each of its checks, and of each function.
func countInstructions(t *testing.T) (checks []int, functions []function) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInstructions$", "-test.v")
	c.Env = append(os.Environ(), instructionsVariable+"=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1", "TMPDIR="+t.TempDir())
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	defer time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() }).Stop()
	thread, lines := 0, bufio.NewScanner(out)
	for thread == 0 && lines.Scan() {
		_, _ = fmt.Sscanf(lines.Text(), "thread %d", &thread)
	}
	if thread == 0 {
		t.Fatal("the process that is to be counted ended early")
	}
	runtime.LockOSThread() // a thread traces, and not a process
	defer runtime.UnlockOSThread()
	defer together(t, thread)()
	defer stopAll(t, c.Process)()
	_, err = in.Write([]byte{0})
	must(t, err)
	return step(t, thread)
}

// stopAll stops every thread of the process. release ends the process.
func stopAll(t *testing.T, p *os.Process) (release func()) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Pid))
	must(t, err)
	var threads []int
	for _, entry := range entries {
		thread, err := strconv.Atoi(entry.Name())
		must(t, err)
		must(t, syscall.PtraceAttach(thread))
		_, err = syscall.Wait4(thread, nil, syscall.WALL, nil)
		must(t, err)
		threads = append(threads, thread)
	}
	return func() {
		_ = p.Kill()
		for _, thread := range slices.Backward(threads) { // the first one ends last
			_, _ = syscall.Wait4(thread, nil, syscall.WALL, nil)
		}
	}
}

// together keeps this thread and another one on one CPU: to change between two for each instruction takes ten times as long.
func together(t *testing.T, thread int) (release func()) {
	t.Helper()
	var before, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &before))
	cpu := 0
	for !before.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	must(t, unix.SchedSetaffinity(0, &one))
	must(t, unix.SchedSetaffinity(thread, &one))
	return func() { _ = unix.SchedSetaffinity(0, &before) }
}

// step runs the thread up to its last mark.
func step(t *testing.T, thread int) (checks []int, functions []function) {
	t.Helper()
	byName, count, begun := make(map[string]int), 0, false
	for len(checks) < countedChecks {
		var at syscall.PtraceRegs
		must(t, syscall.PtraceGetRegs(thread, &at))
		if at.Rax == syscall.SYS_GETPGRP && isSyscall(t, thread, at.Rip) {
			if begun {
				checks = append(checks, count)
			}
			count, begun = 0, true
		}
		if name := functionAt(at.Rip); begun && !strings.Contains(name, "sha256.") {
			count++
			byName[name]++
		}
		must(t, syscall.PtraceSingleStep(thread))
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(thread, &status, syscall.WALL, nil); err != nil || !status.Stopped() {
			t.Fatalf("the process that is counted: %v, status %x", err, status)
		}
	}
	for name, count := range byName {
		functions = append(functions, function{name, count})
	}
	slices.SortFunc(functions, func(a, b function) int { return b.count - a.count })
	return checks, functions
}

// functionAt is the name of a function of this binary, which the other process runs too.
func functionAt(address uint64) string {
	if f := runtime.FuncForPC(uintptr(address)); f != nil {
		return f.Name()
	}
	return "?" // the kernel's page of clocks
}

func isSyscall(t *testing.T, thread int, address uint64) bool {
	t.Helper()
	var instruction [2]byte
	_, err := syscall.PtracePeekText(thread, uintptr(address), instruction[:])
	must(t, err)
	return instruction == [2]byte{0x0f, 0x05}
}
