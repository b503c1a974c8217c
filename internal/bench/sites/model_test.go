package main

import (
	"context"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
)

const tolerance = 0.03 // of 1

// TestModel asks the caches that replicas have, on a clock that the test moves, and compares what reaches the store with
// the formula.
func TestModel(t *testing.T) {
	for _, s := range []site{
		{Clients: 2000, Replicas: 3, Rate: 100, KeyTTL: defaultKeyTTL, MappingTTL: defaultMappingTTL},
		{Clients: 2000, Replicas: 2, Rate: 100, Changes: 5, KeyTTL: defaultKeyTTL, MappingTTL: defaultMappingTTL},
		{Clients: 2000, Replicas: 1, Rate: 100, Changes: 1, KeyTTL: 5 * time.Minute, MappingTTL: 5 * time.Minute},
	} {
		want, got := s.load(), simulate(t, s)
		want.Statements -= s.Rate * (1 - want.Team) // teams have caches of their own
		for what, pair := range map[string][2]float64{
			"misses of mappings": {1 - want.Mapping, 1 - got.Mapping},
			"statements":         {want.Statements, got.Statements},
		} {
			t.Logf("%+v: %s: computed %.4g, simulated %.4g", s, what, pair[0], pair[1])
			if math.Abs(pair[0]/pair[1]-1) > tolerance {
				t.Errorf("%+v: %s: computed %.4g, simulated %.4g", s, what, pair[0], pair[1])
			}
		}
	}
}

// counted is a store in which every client has a mapping and a key, and that counts what it is asked.
type counted struct {
	mapping.Store

	mappings, keys int
}

func (c *counted) Lookup(_ context.Context, s mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	c.mappings++
	id := keys.ID(s.Value)
	return &mapping.Mapping{Issuer: s.Issuer, Claim: s.Claim, Value: s.Value, KeyID: id, Active: true}, &keys.Key{ID: id}, nil
}

func (c *counted) Key(_ context.Context, id keys.ID) (*keys.Key, error) {
	c.keys++
	return &keys.Key{ID: id}, nil
}

// replica has a store of its own, so that what it is asked for is counted without a lock.
type replica struct {
	store  counted
	cached *mapping.Cached
}

// simulate runs a site until its caches are as full as they get, and counts for a quarter of an hour from then on.
func simulate(t *testing.T, s site) load {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2)) // the same requests in each run
	now := time.Now()
	replicas := make([]*replica, s.Replicas)
	for n := range replicas {
		replicas[n] = newReplica(t, s, func() time.Time { return now })
	}
	next := drawer(s.Clients, random)
	started := now.Add(2 * s.MappingTTL)
	end := started.Add(15 * time.Minute)
	var requests, mappings, keyLoads int
	for now.Before(end) {
		now = now.Add(time.Duration(random.ExpFloat64() / (s.Rate + s.Changes) * float64(time.Second)))
		if random.Float64() < s.Changes/(s.Rate+s.Changes) {
			change(replicas, strconv.Itoa(random.IntN(s.Clients)))
			continue
		}
		r := replicas[random.IntN(len(replicas))]
		before := r.store
		ask(t, r.cached, strconv.Itoa(next()))
		if now.After(started) {
			requests++
			mappings += r.store.mappings - before.mappings
			keyLoads += r.store.keys - before.keys
		}
	}
	return load{
		Mapping:    1 - float64(mappings)/float64(requests),
		Statements: float64(mappings+keyLoads) / end.Sub(started).Seconds(),
	}
}

// drawer draws clients by Zipf's law.
func drawer(clients int, random *rand.Rand) func() int {
	sums := zipf(clients)
	for n := 1; n < clients; n++ {
		sums[n] += sums[n-1]
	}
	return func() int { return min(sort.SearchFloat64s(sums, random.Float64()), clients-1) }
}

func ask(t *testing.T, c *mapping.Cached, client string) {
	t.Helper()
	m, _, err := c.Lookup(t.Context(), mapping.Subject{Claim: "sub", Value: client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Key(t.Context(), m.KeyID); err != nil {
		t.Fatal(err)
	}
}

// change tells each replica of a change, as its listener does.
func change(replicas []*replica, client string) {
	for _, r := range replicas {
		r.cached.MappingsChanged([]uint64{cache.Digest("sub", client)})
		r.cached.KeysChanged([]uint64{cache.Digest(client)})
	}
}

func newReplica(t *testing.T, s site, now func() time.Time) *replica {
	t.Helper()
	r := new(replica)
	space, err := cache.NewSpace(16<<20, 1<<20) // room for all
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(space.Close)
	r.cached = mapping.NewCached(&r.store, mapping.CacheOptions{
		MappingTTL: s.MappingTTL, AbsentTTL: s.MappingTTL, KeyTTL: s.KeyTTL, Space: space,
		LoadTimeout: time.Minute, Feed: cache.NewFeed(math.MaxInt64, now),
	})
	t.Cleanup(r.cached.Close)
	return r
}
