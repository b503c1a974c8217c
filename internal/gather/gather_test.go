package gather_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/extauthz/extauthz/internal/gather"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taken is a writer that notes each write, and ends it when it is told how.
type taken struct {
	end chan error

	mu     sync.Mutex
	writes []string
}

func (w *taken) Write(data []byte) (int, error) {
	w.mu.Lock()
	w.writes = append(w.writes, string(data))
	w.mu.Unlock()
	if err := <-w.end; err != nil {
		return 0, err
	}
	return len(data), nil
}

func (w *taken) expect(t *testing.T, writes ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.writes, writes) {
		t.Fatalf("written: %.60q, want %.60q", w.writes, writes)
	}
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

// newBusy returns a writer that has much to do.
func newBusy(t *testing.T) (*taken, *gather.Writer) {
	t.Helper()
	to := &taken{end: make(chan error, 4)}
	w := gather.New(to)
	for range cap(to.end) {
		to.end <- nil
		write(t, w, ".")
	}
	to.expect(t, ".", ".", ".", ".")
	to.writes = nil
	return to, w
}

// While there is little to do, a write is handed on at once, and its error is its own.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, failure := &taken{end: make(chan error, 1)}, errors.New("broken pipe")
		w := gather.New(to)
		for range 10 {
			to.end <- nil
			write(t, w, "a")
			time.Sleep(5 * time.Millisecond / 4)
		}
		to.end <- failure
		if _, err := w.Write([]byte("b")); !errors.Is(err, failure) {
			t.Errorf("%v, want %v", err, failure)
		}
		if _, err := w.Write([]byte("c")); !errors.Is(err, failure) {
			t.Errorf("after it: %v, want %v", err, failure)
		}
		if err := w.Close(); !errors.Is(err, failure) {
			t.Errorf("closed with %v, want %v", err, failure)
		}
	})
}

// What is written while a write is under way goes with the next one, and closing waits for what is there.
func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, w := newBusy(t)
		write(t, w, "a")
		to.expect(t, "a")
		write(t, w, "b")
		write(t, w, "c")
		to.expect(t, "a")
		to.end <- nil
		to.expect(t, "a", "bc")
		write(t, w, "d")
		closed := make(chan error, 1)
		go func() { closed <- w.Close() }()
		synctest.Wait()
		if _, err := w.Write([]byte("e")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a write after the end: %v", err)
		}
		to.end <- nil
		to.expect(t, "a", "bc", "d")
		select {
		case err := <-closed:
			t.Error("closed before all was handed on:", err)
		default:
		}
		to.end <- nil
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error("a second time:", err)
		}
		to.expect(t, "a", "bc", "d")
	})
}

// After a failure nothing more is handed on, and everybody is told.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, w := newBusy(t)
		failure := errors.New("broken pipe")
		write(t, w, "a")
		to.expect(t, "a")
		write(t, w, "b")
		to.end <- failure
		to.expect(t, "a")
		if _, err := w.Write([]byte("c")); !errors.Is(err, failure) {
			t.Errorf("%v, want %v", err, failure)
		}
		if err := w.Close(); !errors.Is(err, failure) {
			t.Errorf("closed with %v, want %v", err, failure)
		}
		to.expect(t, "a")
	})
}

// What cannot be handed on is not kept without end: a write waits, until there is room, a failure or the end.
func TestWaitsForRoom(t *testing.T) {
	for name, then := range map[string]func(*taken, *gather.Writer){
		"room":      func(to *taken, _ *gather.Writer) { to.end <- nil },
		"a failure": func(to *taken, _ *gather.Writer) { to.end <- io.ErrShortWrite },
		"the end":   func(_ *taken, w *gather.Writer) { go func() { _ = w.Close() }() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				to, w := newBusy(t)
				write(t, w, "a")
				to.expect(t, "a")
				write(t, w, strings.Repeat("b", 32<<10))
				written := make(chan error, 1)
				go func() {
					_, err := w.Write([]byte("c"))
					written <- err
				}()
				synctest.Wait()
				select {
				case err := <-written:
					t.Fatal("written beside all that waits:", err)
				default:
				}
				then(to, w)
				if err := <-written; (err == nil) != (name == "room") {
					t.Errorf("%s: %v", name, err)
				}
				close(to.end)
				_ = w.Close()
			})
		})
	}
}

// Many write at once: each write is whole, none is lost, and those of one are in its order.
func TestManyWriters(t *testing.T) {
	var got strings.Builder
	w := gather.New(&got)
	const writers, lines = 8, 5000
	var all sync.WaitGroup
	for writer := range writers {
		all.Go(func() {
			for line := range lines {
				if _, err := fmt.Fprintf(w, "%d %d\n", writer, line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var next [writers]int
	for text := range strings.Lines(got.String()) {
		var writer, line int
		if _, err := fmt.Sscanf(text, "%d %d\n", &writer, &line); err != nil || next[writer] != line {
			t.Fatalf("%q after line %d of its writer: %v", text, next[writer]-1, err)
		}
		next[writer]++
	}
	if want := slices.Repeat([]int{lines}, writers); !slices.Equal(next[:], want) {
		t.Errorf("%v lines arrived, want %v", next, want)
	}
}
