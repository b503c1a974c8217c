package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server under measurement.
type process struct {
	name      string
	pid       int
	address   string // of its Check port
	telemetry string // of its metrics; empty: it has none
	command   *exec.Cmd
}

// patience bounds the start and the end of a server.
const patience = 30 * time.Second

// start starts a server that prints "listening" and "ready" lines as extauthz does, and waits until it is ready.
func start(ctx context.Context, name string, environment []string, program string, args ...string) (*process, error) {
	c := exec.Command(program, args...)
	c.Env = append(os.Environ(), environment...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &process{name: name, pid: c.Process.Pid, command: c}
	ready, ended := make(chan struct{}), make(chan string, 1)
	go func() { ended <- p.readLog(out, ready) }()
	select {
	case <-ready:
		return p, nil
	case said := <-ended:
		_ = c.Wait()
		return nil, fmt.Errorf("%s ended before it was ready: %s", name, said)
	case <-time.After(patience):
	case <-ctx.Done():
	}
	p.stop()
	return nil, fmt.Errorf("%s was not ready within %s", name, patience)
}

// readLog takes the addresses out of the log, reads the rest away and returns its last line.
func (p *process) readLog(out io.Reader, ready chan<- struct{}) string {
	last, lines := "", bufio.NewScanner(out)
	for lines.Scan() {
		last = lines.Text()
		var line struct{ Msg, Server, Telemetry string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Msg {
		case "listening":
			p.address, p.telemetry = line.Server, line.Telemetry
		case "ready":
			close(ready)
		}
	}
	return last
}

func (p *process) stop() {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { _ = p.command.Process.Kill() })
	_ = p.command.Wait()
	timer.Stop()
}

// cpu returns the time that the process has spent on a CPU: the kernel's own count, summed over threads.
func (p *process) cpu() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("%s: no CPU times in /proc: %w", p.name, err)
	}
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		onCPU, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(onCPU, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w", p.name, file, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// writes returns how many system calls to write the process has made.
func (p *process) writes() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.pid))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.name, err)
	}
	_, after, _ := strings.Cut(string(data), "syscw: ")
	number, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: no count of writes in /proc: %w", p.name, err)
	}
	return n, nil
}

// rss returns the resident memory in bytes.
func (p *process) rss() int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// metric returns the sum of the series whose name and labels begin with prefix; 0 if there are none.
func (p *process) metric(ctx context.Context, prefix string) (float64, error) {
	if p.telemetry == "" {
		return 0, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.telemetry+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	sum, lines := 0.0, bufio.NewScanner(response.Body)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), prefix) {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[strings.LastIndex(lines.Text(), " ")+1:], 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, lines.Err()
}
