package mapping_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

var cachedClients = flag.Int("clients", 5_000, "mappings, each with a key of its own, of TestMemory")

// clientBytes is what a client whose mapping and key are cached may take. A million take 1.2 GB.
const clientBytes = 1300

// everybody is a store in which each client has a mapping and a key, as a registration writes them. Each answer is new, as
// from a database.
type everybody struct{ mapping.Store }

func (everybody) Lookup(_ context.Context, s mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	id := keys.Secret("sk-" + s.Value).ID()
	text := strings.Clone
	m := &mapping.Mapping{Issuer: token.IssuerURL(text(string(issuer))), Claim: text(s.Claim), Value: text(s.Value), KeyID: id, Active: true, AutoRegistered: true}
	key := &keys.Key{
		ID: keys.ID(text(string(id))), Alias: "auto-" + string(id[:12]), TeamID: teams.TeamID(text("research")), UserID: teams.UserID(text(s.Value)),
		Models: []string{text("gpt-4o*"), text("o3*")}, AutoRegistered: true, JWTOnly: true, ExpiresAt: time.Now().Add(time.Hour),
	}
	return m, key, nil
}

// TestMemory measures what cached clients take.
func TestMemory(t *testing.T) {
	before := liveHeap()
	cached, err := mapping.NewCached(everybody{}, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, LoadTimeout: time.Minute,
		MaxEntries: int64(*cachedClients), MaxAbsent: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cached.Close)
	empty := liveHeap()
	for n := range *cachedClients {
		if _, _, err := cached.Lookup(t.Context(), mapping.Subject{Issuer: issuer, Claim: "sub", Value: fmt.Sprintf("9c1f0e52-0000-4000-8000-%012d", n)}); err != nil {
			t.Fatal(err)
		}
	}
	each := float64(liveHeap()-empty) / float64(*cachedClients)
	t.Logf("%d clients: %.0f bytes each, %d KiB for none", *cachedClients, each, (empty-before)>>10)
	if each < clientBytes/4 || each > clientBytes {
		t.Errorf("a cached client takes %.0f bytes, want at most %d, and no less than a quarter of it: else they are not kept", each, clientBytes)
	}
	runtime.KeepAlive(cached)
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
