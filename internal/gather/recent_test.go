package gather

import (
	"testing"
	"time"
)

func TestBusy(t *testing.T) {
	var r recent
	at := time.Now()
	for n, step := range []struct {
		after time.Duration
		busy  bool
	}{
		{0, false}, {0, false}, {0, false}, {time.Millisecond, false}, // nothing is known before the first four
		{time.Millisecond, true}, {time.Millisecond, true}, {time.Millisecond, true}, {time.Millisecond, true},
		{2 * time.Millisecond, false}, // exactly five since the fourth last
		{0, true}, {10 * time.Millisecond, false}, {0, false}, {0, false}, {0, false}, {0, true},
	} {
		at = at.Add(step.after)
		if got := r.busy(at); got != step.busy {
			t.Errorf("step %d: busy is %t", n, got)
		}
	}
}
