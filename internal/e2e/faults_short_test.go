//go:build !faults

package e2e

import "time"

// buildFlags are those of the binary under test.
var buildFlags = []string{"-race"}

// form is how much TestFaults does: all of it with the tag faults.
func form() extent {
	return extent{perSecond: 500, hold: 1200 * time.Millisecond, drain: "0s"}
}
