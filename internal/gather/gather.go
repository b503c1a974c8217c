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

// Writer hands on what is written to it, in the same order and with nothing between the bytes of one write. While there is
// little to do it does so at once. While there is much a goroutine of its own does: then a write succeeds before anything is
// handed on, and that it could not be is the error of a later one. It is safe for concurrent use.
type Writer struct {
	to    io.Writer
	ended chan struct{}

	mu      sync.Mutex
	changed sync.Cond // any of these
	pending []byte
	handing bool // what was pending is being handed on
	closed  bool
	err     error // of a write: nothing more is handed on
	writes  recent
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
	busy := w.writes.busy(time.Now()) || w.handing || len(w.pending) > 0
	for len(w.pending) >= maxPending && w.err == nil && !w.closed {
		w.changed.Wait()
	}
	switch {
	case w.closed:
		return 0, io.ErrClosedPipe
	case w.err != nil:
		return 0, w.err
	case !busy:
		n, err := w.to.Write(data)
		w.err = err
		return n, err
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

// run hands on until there is nothing any more. Before each time it lets all that can run do so: what they write goes along.
func (w *Writer) run() {
	defer close(w.ended)
	var batch []byte
	for w.await() {
		runtime.Gosched()
		batch = w.take(batch)
		_, err := w.to.Write(batch)
		w.handed(err)
	}
}

// recent are the last instants at which something was written.
type recent struct {
	at   [4]time.Time
	next int
}

// busyWithin is in how short a time all of them must be for a writer to be busy. While it is not, to have another goroutine
// write and let others run first would only take time: some 50 us where the CPUs sleep.
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
	w.handing = true
	w.changed.Broadcast()
	return batch
}

func (w *Writer) handed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handing = false
	if err != nil {
		w.err, w.pending = err, nil
		w.changed.Broadcast()
	}
}
