package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// startBound is generous: the binary may have the race detector, and the machine other work.
const startBound = 3 * time.Second

// TestStart measures how long a server takes from its exec until it is ready, with a database to make and with one that is
// there. `make start` runs it with the binary as it is shipped.
func TestStart(t *testing.T) {
	const starts = 10
	took := map[string][]time.Duration{}
	for range starts {
		s := newSite(t, sqlite(t), plan{servers: -1, unmigrated: true, config: fallback})
		for _, database := range []string{"new", "existing"} {
			began := time.Now()
			v := s.start(s.config)
			v.await("be ready", v.ready)
			took[database] = append(took[database], time.Since(began))
			if page := v.get("/readyz"); page.Status != http.StatusOK {
				t.Errorf("/readyz: %d %s", page.Status, page.Body)
			}
			v.stop()
		}
	}
	for database, all := range took {
		slices.Sort(all)
		median := all[len(all)/2]
		t.Logf("%s database: ready after %v (%v to %v)", database, median, all[0], all[len(all)-1])
		if median > startBound {
			t.Errorf("%s database: ready after %v, more than %v", database, median, startBound)
		}
	}
}
