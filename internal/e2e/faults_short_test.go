//go:build !faults

package e2e

import "time"

// buildFlags are those of the binary under test.
var buildFlags = []string{"-race"}

// form is how much TestFaults does: all of it with the tag faults.
func form() extent {
	// Other packages' tests run beside it: what is not slowed down on purpose may take long all the same.
	return extent{perSecond: 500, hold: 1200 * time.Millisecond, drain: "0s", checkTimeout: "1500ms", storeTimeout: 600 * time.Millisecond}
}
