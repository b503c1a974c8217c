package mapping_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

var cachedClients = flag.Int("clients", 5_000, "mappings, each with a key of its own, of TestMemory")

// everybody is a store in which each client has a mapping and a key with so many models, as a registration writes them, of a
// team with models of its own that has so many members; 0 is all. Each answer is new, as from a database.
type everybody struct {
	mapping.Store
	models, members int
}

func (e everybody) Lookup(_ context.Context, s mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	id := keys.Secret("sk-" + s.Value).ID()
	text, team := strings.Clone, "research"
	if e.members > 0 {
		n, err := strconv.Atoi(s.Value[len(s.Value)-12:])
		if err != nil {
			return nil, nil, err
		}
		team = fmt.Sprintf("team-%d", n/e.members)
	}
	m := &mapping.Mapping{Issuer: token.IssuerURL(text(string(issuer))), Claim: text(s.Claim), Value: text(s.Value), KeyID: id, Active: true, AutoRegistered: true}
	key := &keys.Key{
		ID: keys.ID(text(string(id))), Alias: "auto-" + string(id[:12]), TeamID: teams.TeamID(text(team)), UserID: teams.UserID(text(s.Value)),
		AutoRegistered: true, JWTOnly: true, ExpiresAt: time.Now().Add(time.Hour),
	}
	for n := range e.models {
		key.Models = append(key.Models, fmt.Sprintf("%s-4o-%d*", team, n))
	}
	return m, key, nil
}

// TestMemory compares what cached clients take with what one may, and, when there are more of them than a budget has room
// for, with the budget.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		store          everybody
		clients, bytes int
	}{
		"small rows":      {everybody{models: 2}, *cachedClients, 600},
		"large rows":      {everybody{models: 1000}, max(*cachedClients/50, 100), 45_000},
		"teams of one":    {everybody{models: 30, members: 1}, *cachedClients, 2_400},
		"teams of twenty": {everybody{models: 5, members: 20}, *cachedClients, 700},
	} {
		t.Run(name, func(t *testing.T) { testMemory(t, c.store, c.clients, c.bytes) })
	}
}

func testMemory(t *testing.T, store everybody, clients, clientBytes int) {
	budget := int64(clients * clientBytes)
	space, err := cache.NewSpace(budget, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(space.Close)
	cached := mapping.NewCached(store, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, LoadTimeout: time.Minute, Space: space,
	})
	t.Cleanup(cached.Close)
	empty := cachetest.LiveHeap()
	fill := func(from, to int) int64 {
		for n := from; n < to; n++ {
			if _, _, err := cached.Lookup(t.Context(), mapping.Subject{Issuer: issuer, Claim: "sub", Value: fmt.Sprintf("9c1f0e52-0000-4000-8000-%012d", n)}); err != nil {
				t.Fatal(err)
			}
		}
		return cachetest.LiveHeap() - empty
	}
	each := float64(fill(0, clients/2)) / float64(clients/2)
	t.Logf("a client takes %.0f bytes", each)
	if each > float64(clientBytes) {
		t.Errorf("a client takes %.0f bytes, more than %d", each, clientBytes)
	}
	cachetest.CheckFull(t, fill(clients/2, 2*clients), budget)
	runtime.KeepAlive(cached)
}

// Keys that have the same models share the list, however they were loaded, and others do not get it.
func TestKeysShareTheirLists(t *testing.T) {
	cached := mapping.NewCached(teamed{}, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, LoadTimeout: time.Minute, Space: cachetest.Space(t),
	})
	t.Cleanup(cached.Close)
	first := map[string]*string{}
	for n := range 40 {
		for _, team := range []string{"a", "b"} {
			name := fmt.Sprint(team, n)
			if n%2 == 0 {
				if _, _, err := cached.Lookup(t.Context(), mapping.Subject{Issuer: issuer, Claim: "sub", Value: name}); err != nil {
					t.Fatal(err)
				}
			}
			key, err := cached.Key(t.Context(), keys.ID(name))
			if err != nil || key.Models[0] != "gpt-"+team {
				t.Fatal(key, err)
			}
			if first[team] == nil {
				first[team] = &key.Models[0]
			}
			if first[team] != &key.Models[0] {
				t.Errorf("key %s has a list of its own", name)
			}
		}
	}
}

// teamed is a store in which everybody has a key of the team that the name begins with.
type teamed struct{ mapping.Store }

func (s teamed) Lookup(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	key, err := s.Key(ctx, keys.ID(subject.Value))
	return &mapping.Mapping{KeyID: key.ID, Active: true}, key, err
}

func (teamed) Key(_ context.Context, id keys.ID) (*keys.Key, error) {
	return &keys.Key{ID: id, Models: []string{"gpt-" + string(id[:1])}}, nil
}
