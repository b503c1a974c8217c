package postgres

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

var scaleRows = flag.Int("rows", 5000, "mappings of TestScale; `make scale` takes ten million")

const (
	fewRows   = 10_000 // what many are compared with
	judged    = 1_000_000
	chunkRows = 100_000
	// scaleTeams is how many teams the clients are of.
	scaleTeams = 10_000
)

// turn is how many look-ups are timed at once: a machine's speed changes within a second.
const turn = 100

// samples is how many clients are registered, and a fifth of how many look-ups of each kind there are.
func samples() int { return min(4000, *scaleRows/10) }

// fillChunk writes the keys and mappings from one number to another.
const fillChunk = `SET session_replication_role = replica;
	INSERT INTO virtual_keys (id, alias, team_id, user_id, models, auto_registered, jwt_only)
		SELECT encode(sha256(n::text::bytea), 'hex'), 'auto-' || n, 'team-' || n %% %[3]d, 'user-' || n, '{gpt-4o*}', true, true
		FROM generate_series(%[1]d, %[2]d) AS n;
	INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, auto_registered)
		SELECT 'https://idp.example.com/realms/acme', 'sub', 'client-' || n, encode(sha256(n::text::bytea), 'hex'), true
		FROM generate_series(%[1]d, %[2]d) AS n;
	SET session_replication_role = origin`

// TestScale measures look-ups, registrations and the start over few and over many mappings, in turns, so that a busy machine
// slows both alike. From a million rows on it fails where many cost a fifth more than few, or halve the registrations.
func TestScale(t *testing.T) {
	server := pgtest.Start(t)
	share(t, server)
	few, many := scaled(t, server, min(fewRows, *scaleRows)), scaled(t, server, *scaleRows)
	for range samples() / 20 {
		for _, d := range []*scaledStore{few, many} {
			d.look(t, &d.hits, func() string { return fmt.Sprint("client-", 1+rand.N(d.rows)) }, true)
			d.look(t, &d.misses, func() string { return fmt.Sprint("nobody-", rand.N(d.rows)) }, false)
		}
	}
	for _, d := range []*scaledStore{few, many} {
		t.Logf("%d mappings: look-up p50 %v, miss p50 %v; open to ready %v; %s on disk; filled in %v", d.rows, median(d.hits), median(d.misses), d.ready, d.size, d.filled)
		d.rate = d.register(t, 0)
		bound := d.rows/scaleTeams + 1000
		t.Logf("%d mappings: %.0f registrations/s; %.0f/s with a bound of %d keys", d.rows, d.rate, d.register(t, bound), bound)
	}
	if *scaleRows < judged {
		return
	}
	if many.rate < few.rate/2 {
		t.Errorf("%.0f registrations/s over %d mappings, %.0f over %d", many.rate, many.rows, few.rate, few.rows)
	}
	for what, times := range map[string][2]time.Duration{
		"a look-up": {median(few.hits), median(many.hits)}, "a miss": {median(few.misses), median(many.misses)},
	} {
		if ratio := float64(times[1]) / float64(times[0]); ratio > 1.2 {
			t.Errorf("%s takes %.2f times as long over %d mappings as over %d", what, ratio, many.rows, few.rows)
		}
	}
}

// share gives the server the most of the memory that PostgreSQL advises, two fifths; its default is for a machine with nothing to spare.
func share(t *testing.T, server *pgtest.Server) {
	t.Helper()
	if *scaleRows < judged {
		return
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var kilobytes int
	if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kilobytes); err != nil {
		t.Fatalf("/proc/meminfo: %v", err)
	}
	conn, err := pgx.Connect(t.Context(), server.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), fmt.Sprintf("ALTER SYSTEM SET shared_buffers = '%dkB'", kilobytes*2/5))
	_ = conn.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.Restart(t)
	t.Logf("shared_buffers: %d MB", kilobytes*2/5/1024)
}

// scaledStore is a store over so many mappings, and what was measured with it.
type scaledStore struct {
	*Store
	rows          int
	filled, ready time.Duration
	size          string
	hits, misses  []time.Duration
	rate          float64 // of registrations without a bound, in a second
	registered    atomic.Int64
}

func scaled(t *testing.T, server *pgtest.Server, mappings int) *scaledStore {
	t.Helper()
	url := server.NewDatabase(t)
	if _, _, err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	d := &scaledStore{rows: mappings}
	began := time.Now()
	statements := []string{fmt.Sprintf("INSERT INTO teams (id) SELECT 'team-' || n FROM generate_series(0, %d) AS n", scaleTeams-1)}
	for from := 1; from <= mappings; from += chunkRows {
		statements = append(statements, fmt.Sprintf(fillChunk, from, min(from+chunkRows-1, mappings), scaleTeams))
	}
	for _, statement := range append(statements, "VACUUM ANALYZE", "CHECKPOINT") {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%.60s: %v", statement, err)
		}
	}
	d.filled = time.Since(began)
	if err := conn.QueryRow(t.Context(), "SELECT pg_size_pretty(pg_database_size(current_database()))").Scan(&d.size); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if d.Store, err = Open(t.Context(), Options{URL: url, Timeout: time.Minute, MaxConnections: 10}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.ready = time.Since(began)
	return d
}

func (d *scaledStore) look(t *testing.T, times *[]time.Duration, value func() string, found bool) {
	t.Helper()
	for range turn {
		s := mapping.Subject{Issuer: "https://idp.example.com/realms/acme", Claim: "sub", Value: value()}
		began := time.Now()
		_, key, err := d.Lookup(t.Context(), s)
		*times = append(*times, time.Since(began))
		if (err == nil && key != nil) != found {
			t.Fatalf("%s: %v, %v", s.Value, key, err)
		}
	}
}

// register returns how many new clients are registered in a second, from 16 goroutines.
func (d *scaledStore) register(t *testing.T, bound int) float64 {
	t.Helper()
	began := time.Now()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range samples() / 16 {
				n, id := d.registered.Add(1), keys.Generate().ID()
				s := mapping.Subject{Issuer: "https://idp.example.com/realms/acme", Claim: "sub", Value: fmt.Sprint("new-", n)}
				key := &keys.Key{ID: id, Alias: "auto-" + string(id[:12]), TeamID: teams.TeamID(fmt.Sprint("team-", n%scaleTeams)), AutoRegistered: true}
				if _, _, err := d.Register(t.Context(), s, key, bound); err != nil {
					t.Errorf("register: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	return float64(samples()) / time.Since(began).Seconds()
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
