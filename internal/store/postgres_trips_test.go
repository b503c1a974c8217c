package store_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// trips counts the round trips of a connection that asks one thing at a time: how often the client speaks after the
// server did.
type trips struct {
	count       atomic.Int64
	serverSpoke atomic.Bool
}

// countTrips returns the URL of a way to the same database that counts.
func countTrips(t *testing.T, url string) (string, *trips) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	address := url[strings.Index(url, "@")+1 : strings.LastIndex(url, "/")]
	counted := &trips{}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				return
			}
			go pass(server, client, func() {
				if counted.serverSpoke.Swap(false) {
					counted.count.Add(1)
				}
			})
			go pass(client, server, func() { counted.serverSpoke.Store(true) })
		}
	}()
	return strings.Replace(url, address, listener.Addr().String(), 1), counted
}

func pass(to, from net.Conn, note func()) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			note()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_, _ = io.Copy(io.Discard, from)
			return
		}
	}
}

// of returns how many round trips a call makes.
func (c *trips) of(call func()) int64 {
	before := c.count.Load()
	call()
	return c.count.Load() - before
}

// testTrips counts what a caller costs the database. Statements are prepared once for each connection: that is not counted.
func testTrips(t *testing.T, template *pgtest.Template) {
	url, counted := countTrips(t, template.NewDatabase(t))
	s := open(t, store.Options{URL: url, Timeout: patience, MaxConnections: 1})
	if err := s.Apply(t.Context(), &resource.Set{
		Organizations: []resource.Organization{{Organization: teams.Organization{ID: "acme"}}},
		Teams:         []resource.Team{{Team: teams.Team{ID: "team-a", OrganizationID: "acme"}}},
		Users:         []resource.User{{User: teams.User{ID: "alice"}}},
	}); err != nil {
		t.Fatal(err)
	}
	cached := cachedMappings(t, s)
	claim, err := token.ParsePath("sub")
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(policy mapping.NoMatch, bound int, client string) {
		t.Helper()
		r := mapping.NewResolver(mapping.Config{
			Rules: map[token.IssuerURL]mapping.Rule{"https://idp": {Claim: claim, NoMatch: policy}}, MaxKeysPerTeam: bound,
		}, cached)
		claims := token.Claims{Issuer: "https://idp", Values: map[string]any{"sub": client}}
		found, err := r.Resolve(t.Context(), r.Claimant(claims), &teams.Identity{TeamIDs: []teams.TeamID{"team-a"}}, teams.Membership{TeamID: "team-a"})
		if err != nil && policy != mapping.Reject || err == nil && found.Key == nil {
			t.Fatalf("%s: %+v, %v", client, found, err)
		}
	}
	for _, bound := range []int{0, 1000} { // the statements are prepared
		resolve(mapping.AutoRegister, bound, fmt.Sprint("first-", bound))
	}
	for _, test := range []struct {
		what   string
		want   int64
		policy mapping.NoMatch
		bound  int
		client string
	}{
		{"a new client", 2, mapping.AutoRegister, 0, "free"},
		{"a new client, within a bound", 2, mapping.AutoRegister, 1000, "bounded"},
		{"the mapping and the key of a client who is not remembered", 1, mapping.AutoRegister, 1000, "bounded"},
		{"a client who is remembered", 0, mapping.AutoRegister, 1000, "bounded"},
		{"a client without a mapping", 1, mapping.Reject, 0, "nobody"},
		{"a client who is remembered to have none", 0, mapping.Reject, 0, "nobody"},
	} {
		if got := counted.of(func() { resolve(test.policy, test.bound, test.client) }); got != test.want {
			t.Errorf("%s: %d round trips, want %d", test.what, got, test.want)
		}
	}
	cold := func() int64 {
		cached = cachedMappings(t, s)
		directory := teams.NewCachedDirectory(s, teams.CacheOptions{TTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: patience})
		t.Cleanup(directory.Close)
		policy, err := teams.NewPolicy(teams.Config{}, directory, nil)
		if err != nil {
			t.Fatal(err)
		}
		return counted.of(func() {
			caller := teams.Identity{Issuer: "https://idp", UserID: "alice", TeamID: "team-a"}
			m, err := policy.Place(t.Context(), &caller, teams.Request{Method: "GET", Path: "/"})
			if err != nil || m.Organization == nil || m.User == nil {
				t.Fatalf("%+v, %v", m, err)
			}
			resolve(mapping.AutoRegister, 0, "free")
		})
	}
	cold() // the statements are prepared
	if got := cold(); got != 3 {
		t.Errorf("a caller whose team, organization, user, mapping and key a new replica has to read: %d round trips, want 3", got)
	}
}

func cachedMappings(t *testing.T, s store.Store) *mapping.Cached {
	t.Helper()
	cached := mapping.NewCached(s, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: patience,
	})
	t.Cleanup(cached.Close)
	return cached
}
