// Package gather writes together what is written within an instant: a system call costs as much as the decision of a check.
package gather

import (
	"io"
	"runtime"
	"sync"
	"time"
)

// maxPending is how much waits to be handed on before a write waits for it to be less, in bytes. One more write may be
// beyond it.
const maxPending = 32 << 10

// Writer hands on what is written to it, in the same order and with nothing between the bytes of one write, from a goroutine
// of its own. So a write succeeds before anything is handed on, and that it could not be is the error of a later one. It is
// safe for concurrent use.
type Writer struct {
	to    io.Writer
	ended chan struct{}

	mu      sync.Mutex
	changed sync.Cond // any of these
	pending []byte
	closed  bool
	err     error // of a write: nothing more is handed on
}

// New returns a writer to another one. Close ends its goroutine.
func New(to io.Writer) *Writer {
	w := &Writer{to: to, ended: make(chan struct{})}
	w.changed.L = &w.mu
	go w.run()
	return w
}

// Write implements [io.Writer]. It waits while there is much to hand on.
func (w *Writer) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) >= maxPending && w.err == nil && !w.closed {
		w.changed.Wait()
	}
	switch {
	case w.closed:
		return 0, io.ErrClosedPipe
	case w.err != nil:
		return 0, w.err
	}
	w.pending = append(w.pending, data...)
	w.changed.Broadcast()
	return len(data), nil
}

// Close waits until what was written is handed on, and returns the error if it could not be. Nothing can be written any more.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closed = true
	w.changed.Broadcast()
	w.mu.Unlock()
	<-w.ended
	return w.err
}

// run hands on until there is nothing any more. While there is much to do it lets all that can run do so before each time:
// what they write goes along. While there is not, that would only take time.
func (w *Writer) run() {
	defer close(w.ended)
	var batch []byte
	var times recent
	for w.await() {
		if times.busy(time.Now()) {
			runtime.Gosched()
		}
		batch = w.take(batch)
		if _, err := w.to.Write(batch); err != nil {
			w.fail(err)
		}
	}
}

// recent are the last instants at which something was handed on.
type recent struct {
	at   [4]time.Time
	next int
}

// busyWithin is in how short a time all of them must be for a writer to be busy.
const busyWithin = 5 * time.Millisecond

// busy notes one more instant, and reports whether there were many of late.
func (r *recent) busy(now time.Time) bool {
	first := &r.at[r.next%len(r.at)]
	r.next++
	before := *first
	*first = now
	return now.Sub(before) < busyWithin
}

// await waits until something is pending, and returns false when nothing will be any more.
func (w *Writer) await() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) == 0 && !w.closed {
		w.changed.Wait()
	}
	return len(w.pending) > 0
}

// take returns what is pending. The memory of what was handed on is used for what comes, unless it is much.
func (w *Writer) take(before []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.pending
	if w.pending = before[:0]; cap(before) > maxPending {
		w.pending = nil
	}
	w.changed.Broadcast()
	return batch
}

func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err, w.pending = err, nil
	w.changed.Broadcast()
}
