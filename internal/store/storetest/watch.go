package storetest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/store"
)

// watchPatience bounds the wait for a change that has to be told.
const watchPatience = 20 * time.Second

// Watched records what a store tells of changes. It is safe for concurrent use.
type Watched struct {
	mu        sync.Mutex
	since     time.Time // zero: not watching
	confirmed time.Time
	changes   []store.Change
	lost      []error
	news      chan struct{} // has room for one
}

// Watch watches the store until the test ends, and returns when it does.
func Watch(t *testing.T, s store.Store) *Watched {
	t.Helper()
	w := NewWatched(t, s)
	w.Until(t, "the store watches", w.Watches)
	return w
}

// NewWatched watches the store until the test ends.
func NewWatched(t *testing.T, s store.Store) *Watched {
	w := &Watched{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Watch(ctx, w); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

func (w *Watched) note(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// Watching implements [store.Watcher].
func (w *Watched) Watching(since time.Time) {
	w.note(func() { w.since, w.confirmed = since, since })
}

// Changed implements [store.Watcher].
func (w *Watched) Changed(c store.Change) { w.note(func() { w.changes = append(w.changes, c) }) }

// Confirmed implements [store.Watcher].
func (w *Watched) Confirmed(until time.Time) { w.note(func() { w.confirmed = until }) }

// Interrupted implements [store.Watcher].
func (w *Watched) Interrupted(err error) {
	w.note(func() { w.since, w.lost = time.Time{}, append(w.lost, err) })
}

// Until waits until the condition holds, which is asked under the lock.
func (w *Watched) Until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(watchPatience)
	for {
		w.mu.Lock()
		done := holds()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.news:
		case <-deadline:
			t.Fatalf("%s: not within %s; told of %+v", what, watchPatience, w.changes)
		}
	}
}

// Take returns the changes that were committed before now, and forgets them.
func (w *Watched) Take(t *testing.T) []store.Change {
	t.Helper()
	now := time.Now()
	w.Until(t, "changes are confirmed", func() bool { return w.confirmed.After(now) })
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.changes
	w.changes = nil
	return taken
}

// Watches reports whether the store watches, and Interruptions how often it no longer did. They are for Until.
func (w *Watched) Watches() bool { return !w.since.IsZero() }

// Interruptions is documented on Watches.
func (w *Watched) Interruptions() int { return len(w.lost) }

// Losses returns why and how often watching was interrupted.
func (w *Watched) Losses() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lost)
}

// told checks that exactly these changes were told, in any order; where a store cannot tell rows, that something was if
// anything is wanted.
func (w *Watched) told(t *testing.T, features Features, want []store.Change) {
	t.Helper()
	got := w.Take(t)
	if !features.TellsRows {
		if (len(got) > 0) != (len(want) > 0) {
			t.Errorf("%d changes, want %d", len(got), len(want))
		}
		for _, c := range got {
			equal(t, "change", c, store.Change{})
		}
		return
	}
	for n := range got {
		if age := time.Since(got[n].At); age < -time.Second || age > watchPatience {
			t.Errorf("%v was told as %s old", got[n], age)
		}
		got[n].At = time.Time{}
	}
	for _, list := range [][]store.Change{got, want} {
		for _, c := range list {
			slices.Sort(c.Digests)
		}
		slices.SortFunc(list, func(a, b store.Change) int {
			return cmp.Or(strings.Compare(a.Table, b.Table), slices.Compare(a.Digests, b.Digests))
		})
	}
	equal(t, "changes", got, want)
}

func change(table string, digests ...uint64) store.Change {
	return store.Change{Table: table, Digests: digests}
}

// testWatchRows changes every table by hand-written SQL. A row is told by what it was looked up by and by what it
// is looked up by now.
func testWatchRows(t *testing.T, s Instance, features Features) {
	w := Watch(t, s)
	d, k, key := cache.Digest, cache.Digest(string(id("k"))), "'"+string(id("k"))+"'"
	var want []store.Change
	for _, step := range []struct {
		sql  string
		want []store.Change
	}{
		{"INSERT INTO organizations (id, alias) VALUES ('o', 'O')", []store.Change{change("organizations", d("o"), d("O"))}},
		{"UPDATE organizations SET alias = 'Ö', blocked = true", []store.Change{change("organizations", d("o"), d("O"), d("Ö"))}},
		{"INSERT INTO teams (id, alias) VALUES ('a', 'A'), ('b', '')", []store.Change{change("teams", d("a"), d("A"), d("b"))}},
		{"UPDATE teams SET alias = 'A' WHERE id = 'b'", []store.Change{change("teams", d("b"), d("A"))}},
		{"UPDATE teams SET id = 'c' WHERE id = 'b'", []store.Change{change("teams", d("b"), d("c"), d("A"))}},
		{"INSERT INTO team_members (team_id, user_id) VALUES ('a', 'u'), ('c', 'u')", []store.Change{change("team_members", d("a", "u"), d("c", "u"))}},
		{"DELETE FROM team_members WHERE team_id = 'a'", []store.Change{change("team_members", d("a", "u"))}},
		{"DELETE FROM teams WHERE id = 'c'", []store.Change{change("team_members", d("c", "u")), change("teams", d("c"), d("A"))}},
		{"INSERT INTO users (id) VALUES ('u')", []store.Change{change("users", d("u"))}},
		{"UPDATE users SET blocked = true", []store.Change{change("users", d("u"))}},
		{"DELETE FROM users WHERE id = 'nobody'", nil},
		{"DELETE FROM users", []store.Change{change("users", d("u"))}},
		{"INSERT INTO virtual_keys (id, team_id) VALUES (" + key + ", 'a')", []store.Change{change("virtual_keys", k)}},
		{"INSERT INTO jwt_key_mappings (claim, value, key_id) VALUES ('sub', 'x', " + key + ")", []store.Change{change("jwt_key_mappings", d("sub", "x"))}},
		{"UPDATE jwt_key_mappings SET value = 'y'", []store.Change{change("jwt_key_mappings", d("sub", "x"), d("sub", "y"))}},
		{"DELETE FROM jwt_key_mappings", []store.Change{change("jwt_key_mappings", d("sub", "y"))}},
		{"UPDATE virtual_keys SET blocked = true", []store.Change{change("virtual_keys", k)}},
		{"DELETE FROM virtual_keys", []store.Change{change("virtual_keys", k)}},
	} {
		execute(t, s.Raw, step.sql)
		want = append(want, step.want...)
	}
	w.told(t, features, want)
}

// testWatchSpend: spend that grows below its ceiling changes no decision, and whoever counts it may write often.
func testWatchSpend(t *testing.T, s Instance, features Features) {
	execute(t, s.Raw, "INSERT INTO users (id, max_budget_micros) VALUES ('u', 10)", "INSERT INTO users (id) VALUES ('free')")
	w := Watch(t, s)
	told := change("users", cache.Digest("u"))
	for _, step := range []struct {
		set  string
		want []store.Change
	}{
		{"spend_micros = 9", nil},
		{"spend_micros = 10", []store.Change{told}},
		{"spend_micros = 11, updated_at = created_at", nil},
		{"max_budget_micros = 12", []store.Change{told}},
		{"spend_micros = 0, max_budget_micros = 0", []store.Change{told}},
	} {
		execute(t, s.Raw, "UPDATE users SET "+step.set+" WHERE id = 'u'", "UPDATE users SET spend_micros = spend_micros + 1 WHERE id = 'free'")
		if features.TellsRows {
			w.told(t, features, step.want)
		}
	}
	if !features.TellsRows {
		w.told(t, features, []store.Change{told})
	}
}

// testWatchOwnWrites: the store's own writers know what they wrote.
func testWatchOwnWrites(t *testing.T, s Instance, features Features) {
	seed(t, s)
	w := Watch(t, s)
	register(t, s, subject("x"), registered("x", "team-a"))
	var want []store.Change
	if features.TellsRows {
		want = []store.Change{change("virtual_keys", cache.Digest(string(id("x")))), change("jwt_key_mappings", cache.Digest(claim, "x"))}
	}
	w.told(t, features, want)
}

// testWatchConfirms: confirmations follow each other closely, and a transaction that is rolled back is not told.
func testWatchConfirms(t *testing.T, s Instance, features Features) {
	w := Watch(t, s)
	for range 3 {
		began := time.Now()
		w.Until(t, "a confirmation", func() bool { return w.confirmed.After(began) })
	}
	tx, err := s.Raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO users (id) VALUES ('u')"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	w.told(t, features, nil)
	if lost := w.Losses(); len(lost) > 0 {
		t.Errorf("interrupted: %v", lost)
	}
}
