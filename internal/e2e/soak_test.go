//go:build faults

package e2e

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	soak     = flag.Duration("soak", 30*time.Minute, "how long TestSoak lasts")
	soakRate = flag.Int("soak-rate", 300, "how many requests TestSoak sends in a second")
)

// resources are what a replica must not need more of, the longer it runs. Each has the growth that is let through, of the
// last quarter's mean over the second quarter's: the first one fills the caches.
var resources = []struct {
	metric string
	grows  float64
}{
	{"go_goroutines", 5},
	{"process_open_fds", 3},
	{"process_resident_memory_bytes", 16 << 20},
	{"go_memstats_heap_inuse_bytes", 8 << 20},
	{"connections to PostgreSQL", 1},
}

// TestSoak has three replicas answer for a long time, while rows change, and callers are registered who are not seen again
// soon: more of them than the caches hold.
func TestSoak(t *testing.T) {
	w := newWorld(t, plan{
		config: "cache: {max_bytes: 1048576, max_absent_bytes: 1048576, max_token_bytes: 1048576}\n", checkTimeout: "1800ms", storeTimeout: "1s",
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := w.changes(ctx, 50*time.Millisecond)
	answered := w.load(ctx, *soakRate)
	samples := make(map[string][]float64)
	tick := time.NewTicker(*soak / 120)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < *soak; <-tick.C {
		for n, r := range w.replicas {
			for _, resource := range resources {
				name := fmt.Sprintf("replica %d, %s", n, resource.metric)
				samples[name] = append(samples[name], w.use(r, resource.metric))
			}
		}
	}
	cancel()
	answered()
	changed()
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		w.compare(name, samples[name])
	}
	w.verdict()
}

// use returns how much of a resource a replica has in use.
func (w *world) use(r *replica, resource string) float64 {
	w.t.Helper()
	if !strings.HasPrefix(resource, "connections") {
		return r.metric(resource)
	}
	var count float64
	const all = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'extauthz%'"
	if err := w.sql.QueryRowContext(w.t.Context(), all).Scan(&count); err != nil {
		w.t.Fatal(err)
	}
	return count / replicaCount
}

// compare fails the test if a resource grew.
func (w *world) compare(name string, values []float64) {
	w.t.Helper()
	quarter := func(n int) float64 {
		part, sum := values[len(values)*n/4:len(values)*(n+1)/4], 0.
		for _, v := range part {
			sum += v
		}
		return sum / float64(len(part))
	}
	w.t.Logf("%s: mean of each quarter %.4g, %.4g, %.4g, %.4g; greatest %.4g", name, quarter(0), quarter(1), quarter(2), quarter(3), slices.Max(values))
	for _, r := range resources {
		if strings.HasSuffix(name, ", "+r.metric) && quarter(3)-quarter(1) > r.grows {
			w.t.Errorf("%s grew by %.4g, more than %.4g", name, quarter(3)-quarter(1), r.grows)
		}
	}
}
