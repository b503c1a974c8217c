//go:build faults

package e2e

import (
	"flag"
	"time"
)

// buildFlags are those of the binary under test: as it is shipped.
var buildFlags = []string{"-trimpath"}

var (
	checks = flag.Int("checks", 1_000_000, "how many requests TestFaults sends, at least")
	most   = flag.Duration("most", time.Hour, "how long TestFaults lasts at most, after the first round")
	only   = flag.String("only", "", "part of the names of the faults that TestFaults causes")
)

// form is how much TestFaults does.
func form() extent {
	return extent{
		all: true, only: *only, checks: *checks, most: *most, hold: 3 * time.Second, drain: "5s", checkTimeout: "1s", storeTimeout: 300 * time.Millisecond,
	}
}
