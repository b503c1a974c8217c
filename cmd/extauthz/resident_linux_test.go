package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// The clients of TestResident are a 32nd of a million: the counters, whose number is a power of two, take as much of each.
var (
	residentClients = flag.Int("clients", 31_250, "clients of TestResident")
	residentKeys    = flag.Int("keys", 0, "an operator's keys that they have; 0 means that each has registered")
)

// residentVariable makes a test process the one that is measured.
const residentVariable = "EXTAUTHZ_TEST_RESIDENT"

// The budgets of TestResident are what a client of a million needs: one that registered, one with an operator's key of its
// own, and one of many with the same.
const residentRegistered, residentOwnKey, residentSharedKey = 592, 1152, 448

// residentBinary is what of the test binary itself is resident: it is no part of the limit.
const residentBinary = 64 << 20

// registered is a store in which everybody has a mapping: to a key as a registration writes it, or to an operator's.
type registered struct {
	mapping.Store
	asked *atomic.Int64
}

func (r registered) Lookup(_ context.Context, s mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	r.asked.Add(1)
	name, own := s.Value, *residentKeys == 0
	if !own && *residentKeys < *residentClients {
		name = strconv.Itoa(int(name[len(name)-1]) % *residentKeys)
	}
	id := keys.Secret("sk-" + name).ID()
	return &mapping.Mapping{Issuer: s.Issuer, Claim: s.Claim, Value: strings.Clone(s.Value), KeyID: id, Active: true, AutoRegistered: own}, &keys.Key{
		ID: keys.ID(strings.Clone(string(id))), Alias: "auto-" + string(id[:12]), TeamID: teams.TeamID(strings.Clone("research")),
		UserID: teams.UserID(strings.Clone(s.Value)), Models: []string{strings.Clone("gpt-4o*"), strings.Clone("o3*")},
		AutoRegistered: own, JWTOnly: true, ExpiresAt: time.Now().Add(time.Hour),
	}, nil
}

// TestResident measures what a process of its own takes whose caches are full: what is resident, garbage included.
func TestResident(t *testing.T) {
	if os.Getenv(residentVariable) != "" {
		fillCaches(t)
		return
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestResident$", "-test.v", "-clients", strconv.Itoa(*residentClients), "-keys", strconv.Itoa(*residentKeys))
	c.Env = append(os.Environ(), residentVariable+"=1")
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func fillCaches(t *testing.T) {
	each := residentRegistered
	switch {
	case *residentKeys >= *residentClients:
		each = residentOwnKey
	case *residentKeys > 0:
		each = residentSharedKey
	}
	budget := max(*residentClients*each, 1<<20)
	c, err := config.Parse("extauthz.yaml", fmt.Appendf(nil, `
store: {url: "sqlite:%s/extauthz.db"}
cache: {ttl: 1h, max_bytes: %d}
issuers: [{issuer: http://127.0.0.1:1, audiences: [a]}]
mapping: {claim: sub, no_match: reject, cache_ttl: 1h}
`, t.TempDir(), budget), func(string) (string, bool) { return "", false })
	must(t, err)
	var asked atomic.Int64
	rows, err := openRows(t.Context(), c, telemetry.NewMetrics("test"), slog.New(slog.DiscardHandler), func(s telemetry.Store) (mapping.Store, teams.Store) {
		return registered{s, &asked}, s
	})
	must(t, err)
	t.Cleanup(rows.close)
	rows.changes.feed.Open(time.Now())
	go watchHeap(t.Context(), cacheBytes(c.GetCache()))
	t.Logf("none: %d MiB resident", resident(t, "VmRSS")>>20)
	lookUp := func(client int) error {
		subject := mapping.Subject{Issuer: "http://127.0.0.1:1", Claim: "sub", Value: fmt.Sprintf("9c1f0e52-0000-4000-8000-%012d", client)}
		m, key, err := rows.mappings.Lookup(t.Context(), subject)
		must(t, err)
		if key == nil {
			_, err = rows.mappings.Key(t.Context(), m.KeyID) // nobody has it but the cache
		}
		return err
	}
	for n := range *residentClients {
		_ = lookUp(n)
	}
	litter()
	peak, limit := resident(t, "VmHWM"), heapLimit(cacheBytes(c.GetCache()), 0)
	t.Logf("%d clients in a budget of %d MiB: at most %d MiB resident, %d MiB live, %.2f s of CPU a collection",
		*residentClients, budget>>20, peak>>20, cachetest.LiveHeap()>>20, collection())
	rows.changes.feed.Confirm(time.Now())
	looked, found := 0, 0
	for n := 0; n < *residentClients; n += 100 {
		before := asked.Load()
		looked++
		if lookUp(n) == nil && asked.Load() == before {
			found++
		}
	}
	t.Logf("%d of %d clients found", found, looked)
	if found < looked*95/100 {
		t.Errorf("%d of %d clients are not in the budget", looked-found, looked)
	}
	bound := limit + residentBinary
	if raced() {
		bound *= 5 // what the detector notes of each byte
	}
	if peak > bound {
		t.Errorf("%d bytes resident, more than %d", peak, bound)
	}
}

// litter leaves as much garbage as a check does, at the rate of some 20,000 a second, until it was collected twice.
func litter() {
	look := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(look)
	work := make([]byte, 3456) // a size of objects
	for until := look[0].Value.Uint64() + 2; look[0].Value.Uint64() < until; metrics.Read(look) {
		for range 1000 {
			runtime.KeepAlive(bytes.Clone(work))
			for range 20 {
				runtime.KeepAlive(sha256.Sum256(work))
			}
		}
	}
}

// collection returns the seconds of CPU that one collection takes.
func collection() float64 {
	runtime.GC() // the figures are of the last one
	before := collectorSeconds()
	runtime.GC()
	return collectorSeconds() - before
}

// collectorSeconds is the CPU that collections took, without what nobody else wanted.
func collectorSeconds() float64 {
	look := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	metrics.Read(look)
	return look[0].Value.Float64() - look[1].Value.Float64()
}

// resident is a figure of this process's memory, in bytes.
func resident(t *testing.T, name string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, found := strings.Cut(string(status), name+":")
	if !found {
		t.Fatalf("no %s", name)
	}
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(t, err)
	return kib << 10
}
