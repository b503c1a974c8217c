package postgres

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// TestLine shares one server; every test has its own database with three teams.
func TestLine(t *testing.T) {
	template := pgtest.Start(t, "deadlock_timeout=5ms", "synchronous_standby_names=nobody").NewTemplate(t, func(url string) error {
		_, _, err := Migrate(t.Context(), url)
		return err
	})
	for name, test := range map[string]func(*testing.T, *Store){
		"OneTransaction": testOneTransaction,
		"EveryColumn":    testEveryColumn,
		"OwnMapping":     testOwnMapping,
		"Bounds":         testBounds,
		"NoneForAnother": testNoneForAnother,
		"LockedTeam":     testLockedTeam,
		"SlowCommit":     testSlowCommit,
		"LongTurn":       testLongTurn,
		"Leaving":        testLeaving,
		"Deadline":       testDeadline,
		"Panic":          testPanic,
		"LostAnswer":     testLostAnswer,
		"DeadConnection": testDeadConnection,
		"TwoReplicas":    testTwoReplicas,
		"PlannedOnce":    testPlannedOnce,
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, template.NewDatabase(t))
			execute(t, s, "INSERT INTO teams (id) VALUES ('team-a'), ('team-b'), ('team-c')")
			test(t, s)
		})
	}
}

func execute(t *testing.T, s *Store, statement string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func count(t *testing.T, s *Store, query string, args ...any) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// sizes checks how many keys and mappings there are, and that none is without the other.
func sizes(t *testing.T, s *Store, want int) {
	t.Helper()
	if mappings, n := count(t, s, "SELECT count(*) FROM jwt_key_mappings JOIN virtual_keys ON id = key_id"), count(t, s, "SELECT count(*) FROM virtual_keys"); mappings != want || n != want {
		t.Errorf("%d keys and %d mappings of them, want %d", n, mappings, want)
	}
}

// asked is a registration that is not in the line.
func asked(value string, team teams.TeamID, bound int) *registration {
	return &registration{
		subject: mapping.Subject{Issuer: "https://idp", Claim: "sub", Value: value}, bound: bound,
		key:   &keys.Key{ID: keys.Secret("sk-" + value).ID(), Alias: value, TeamID: team, AutoRegistered: true},
		until: time.Now().Add(patience), tried: make(chan struct{}),
	}
}

// waiting registers them from as many goroutines, and returns when all are in the line, which is kept busy until release
// is called. The errors are there when done returns.
func waiting(t *testing.T, s *Store, list ...*registration) (release func(), done func() []error) {
	t.Helper()
	if !s.line.enter(nil) {
		t.Fatal("the line is busy")
	}
	results := make([]error, len(list))
	var group sync.WaitGroup
	for i, r := range list {
		group.Go(func() {
			ctx, cancel := context.WithDeadline(t.Context(), r.until)
			defer cancel()
			_, _, results[i] = s.Register(ctx, r.subject, r.key, r.bound)
		})
	}
	until(t, "all wait", func() bool { return s.line.length() == len(list) })
	return func() { s.takeTurn(func() {}) }, func() []error { group.Wait(); return results }
}

func (l *line) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// until waits for what must come.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline, poll := time.After(patience), time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-poll.C:
		}
	}
}

func succeed(t *testing.T, results []error) {
	t.Helper()
	for i, err := range results {
		if err != nil {
			t.Errorf("registration %d: %v", i, err)
		}
	}
}

// What waits is registered by one transaction with one notification for each table, and no more than 64 by one.
func testOneTransaction(t *testing.T, s *Store) {
	listening, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Release()
	if _, err := listening.Exec(t.Context(), "LISTEN "+changesChannel); err != nil {
		t.Fatal(err)
	}
	var list []*registration
	for n := range mostTogether + 6 {
		list = append(list, asked(fmt.Sprint(n), []teams.TeamID{"team-a", "team-b"}[n/mostTogether], n%2*1000))
	}
	release, done := waiting(t, s, list...)
	release()
	succeed(t, done())
	sizes(t, s, len(list))
	for table, column := range map[string]string{"virtual_keys": "alias", "jwt_key_mappings": "value"} {
		if n := count(t, s, "SELECT count(DISTINCT xmin::text) FROM "+table+" WHERE "+column+" <> ''"); n != 2 {
			t.Errorf("%d transactions wrote %s, want 2", n, table)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	digests := map[string]int{}
	for range 4 {
		told, err := listening.Conn().WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(told.Payload)
		digests[fields[2]] += len(fields[3]) / 16
	}
	if want := map[string]int{"virtual_keys": len(list), "jwt_key_mappings": len(list)}; !reflect.DeepEqual(digests, want) {
		t.Errorf("told of %v, want %v", digests, want)
	}
}

// Each registration gets its own row, whatever stands in the columns of the others.
func testEveryColumn(t *testing.T, s *Store) {
	execute(t, s, "INSERT INTO organizations (id) VALUES ('acme')")
	window, err := teams.ParseWindow("1mo")
	if err != nil {
		t.Fatal(err)
	}
	at, five := time.Date(2099, 1, 2, 3, 4, 5, 678901000, time.UTC), int64(5)
	micros := teams.Micros(7)
	full := asked("full", "team-a", 0)
	*full.key = keys.Key{
		ID: full.key.ID, Alias: `a,"b"\c{}`, TeamID: "team-a", UserID: "NULL", OrganizationID: "acme",
		Models: []string{`a,b`, `"`, `\`, `{}`, "NULL", " ", "ü"}, AllowedRoutes: []string{"GET /v1/*"}, Blocked: true, JWTOnly: true,
		ExpiresAt: at, IdleTimeout: 36*time.Hour + time.Microsecond, IdleExpiresAt: at.Add(time.Hour), Sealed: []byte("sealed \x00\xff"),
		Budget: teams.Budget{Max: &micros, Spend: 3, Window: window, ResetAt: at.Add(time.Second)}, Limits: teams.Limits{RPM: &five, TPM: new(int64)},
	}
	bare := func(name string) *registration {
		r := asked(name, "", 0)
		r.key.Alias, r.key.AutoRegistered = "", false
		return r
	}
	execute(t, s, "INSERT INTO virtual_keys (id) VALUES ($1)", keys.Secret("sk-own").ID())
	execute(t, s, "INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, active) VALUES ('https://idp', 'sub', 'own', $1, false), ('', 'sub', 'bare', $1, true)",
		keys.Secret("sk-own").ID())
	own := asked("own", "team-a", 0)
	own.key.ID = keys.Secret("sk-unused").ID()
	list := []*registration{bare("bare"), full, own, bare("beside")}
	outcomes, err := s.register(t.Context(), list, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range list {
		want := mapped{newMapping(r.subject, r.key.ID), r.key}
		if r == own {
			want = mapped{&mapping.Mapping{Issuer: "https://idp", Claim: "sub", Value: "own", KeyID: keys.Secret("sk-own").ID()}, nil}
		}
		if !reflect.DeepEqual(outcomes[i].mapped, want) || outcomes[i].full {
			t.Errorf("%s:\n got %+v %+v\nwant %+v %+v", r.subject.Value, outcomes[i].mapping, outcomes[i].key, want.mapping, want.key)
		}
		if r == own {
			continue
		}
		if key, err := s.Key(t.Context(), r.key.ID); err != nil || !reflect.DeepEqual(key, r.key) {
			t.Errorf("%s: stored %+v, %v", r.subject.Value, key, err)
		}
	}
}

// Who has a mapping waits for nobody.
func testOwnMapping(t *testing.T, s *Store) {
	list := []*registration{asked("own", "team-a", 0), asked("beside", "team-a", 0)}
	if outcomes, err := s.register(t.Context(), list[:1], false); err != nil || outcomes[0].mapping == nil {
		t.Fatalf("%+v, %v", outcomes, err)
	}
	hold(t, s, "DELETE FROM jwt_key_mappings WHERE value = 'own'")
	if outcomes, err := s.register(t.Context(), list, true); err != nil || outcomes[0].mapping == nil || outcomes[1].mapping == nil {
		t.Errorf("while another transaction deletes it: %+v, %v", outcomes, err)
	}
}

// A bound counts those of the same statement; who is not within it may still be, if one of those loses, unless the team
// is full without them.
func testBounds(t *testing.T, s *Store) {
	try := func(list ...*registration) string {
		t.Helper()
		outcomes, err := s.register(t.Context(), list, true)
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for i, o := range outcomes {
			switch {
			case o.mapping != nil && o.mapping.KeyID == list[i].key.ID:
				text = append(text, "yes")
			case o.full:
				text = append(text, "full")
			case o.mapping == nil:
				text = append(text, "alone")
			}
		}
		return strings.Join(text, " ")
	}
	for _, team := range []teams.TeamID{"team-a", ""} {
		name := func(n int) string { return fmt.Sprint(team, n) }
		list := []*registration{
			asked(name(1), team, 2), asked("b"+name(1), "team-b", 1), asked(name(2), team, 0), asked(name(3), team, 2), asked(name(4), team, 2),
		}
		if got, want := try(list...), "yes yes yes yes alone"; got != want {
			t.Errorf("team %q: %s, want %s", team, got, want)
		}
		if got, want := try(asked(name(5), team, 3), asked(name(6), team, 5), asked(name(7), team, 6)), "full yes yes"; got != want {
			t.Errorf("team %q with three keys: %s, want %s", team, got, want)
		}
		twin := asked(name(9), team, 0)
		twin.subject = asked(name(8), team, 0).subject
		if got, want := try(asked(name(8), team, 6), twin, asked(name(1), team, 1)), "yes alone yes"; got != want {
			t.Errorf("team %q, one subject twice and one that is there: %s, want %s", team, got, want)
		}
		execute(t, s, "UPDATE virtual_keys SET blocked = true WHERE team_id = 'team-b'")
	}
	sizes(t, s, 14)
}

// One that cannot be registered fails alone, with its own reason.
func testNoneForAnother(t *testing.T, s *Store) {
	register := func(r *registration) {
		t.Helper()
		if _, _, err := s.Register(t.Context(), r.subject, r.key, r.bound); err != nil {
			t.Fatal(err)
		}
	}
	register(asked("taken", "team-c", 1))
	twins := []*registration{asked("twin", "team-b", 0), asked("twin", "team-b", 0)}
	twins[1].key.ID, twins[1].key.Alias = keys.Secret("sk-other").ID(), "other"
	for what, test := range map[string]struct {
		wrong *registration
		want  error
	}{
		"team":  {asked("gone", "gone", 0), rows.ErrInvalid},
		"bound": {asked("full", "team-c", 1), mapping.ErrLimited},
		"alias": {asked("alias", "", 0), mapping.ErrConflict},
		"twin":  {twins[0], nil},
	} {
		list := []*registration{asked("first "+what, "team-a", 100), test.wrong, asked("last "+what, "", 0)}
		switch what {
		case "alias":
			test.wrong.key.Alias = "taken"
		case "twin":
			list = append(list, twins[1])
		}
		release, done := waiting(t, s, list...)
		release()
		results := done()
		if err := results[1]; !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", what, err, test.want)
		}
		succeed(t, slices.Delete(results, 1, 2))
	}
	sizes(t, s, 10)
}

// hold takes a lock until the test ends or free is called.
func hold(t *testing.T, s *Store, statement string) (free func()) {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	t.Cleanup(free)
	if _, err := tx.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
	return free
}

// Registrations of a team whose row somebody holds wait; the others of their statement do not.
func testLockedTeam(t *testing.T, s *Store) {
	hold(t, s, "UPDATE teams SET alias = 'changing' WHERE id = 'team-b'")
	stuck := asked("stuck", "team-b", 10)
	stuck.until = time.Now().Add(2 * time.Second)
	release, done := waiting(t, s, asked("a", "team-a", 10), stuck, asked("z", "", 10), asked("free", "team-b", 0))
	release()
	results := done()
	if err := results[1]; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in the locked team: %v, want DeadlineExceeded", err)
	}
	succeed(t, slices.Delete(results, 1, 2))
	sizes(t, s, 3)
}

// A commit waits for another one that notifies, however long that takes.
func testSlowCommit(t *testing.T, s *Store) {
	slow := make(chan error)
	go func() {
		_, err := s.pool.Exec(t.Context(), "BEGIN; SET LOCAL synchronous_commit = on; INSERT INTO users (id) VALUES ('slow'); COMMIT", pgx.QueryExecModeSimpleProtocol)
		slow <- err // it waits for a standby that there is not
	}()
	waits := func(event, since string) func() bool {
		return func() bool {
			return count(t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1 AND state_change < now() - $2::interval", event, since) == 1
		}
	}
	until(t, "a commit takes long", waits("SyncRep", "0 s"))
	list := []*registration{asked("a", "team-a", 0), asked("b", "team-b", 10)}
	go s.registerTogether(list)
	until(t, "the registrations have waited for it", waits("object", (3*longTurn).String()))
	execute(t, s, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'")
	for _, r := range list {
		if <-r.tried; r.mapping == nil {
			t.Errorf("%s: %+v", r.subject.Value, r.outcome)
		}
	}
	if err := <-slow; err != nil {
		t.Errorf("the slow commit: %v", err)
	}
}

// A registration that waits for a lock does not keep those that come after it.
func testLongTurn(t *testing.T, s *Store) {
	free := hold(t, s, "UPDATE teams SET alias = 'changing' WHERE id = 'team-b'")
	stuck := make(chan error)
	go func() {
		r := asked("stuck", "team-b", 10)
		_, _, err := s.Register(t.Context(), r.subject, r.key, r.bound)
		stuck <- err
	}()
	until(t, "it waits for the lock", func() bool {
		return count(t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	})
	after := asked("after", "team-a", 10)
	if _, _, err := s.Register(t.Context(), after.subject, after.key, after.bound); err != nil {
		t.Errorf("after it: %v", err)
	}
	sizes(t, s, 1)
	free()
	if err := <-stuck; err != nil {
		t.Errorf("when the lock is free: %v", err)
	}
}

// A caller who leaves while it waits is not registered, and the others are.
func testLeaving(t *testing.T, s *Store) {
	leaving := asked("leaving", "team-a", 10)
	release, done := waiting(t, s, asked("staying", "team-a", 10))
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := s.Register(ctx, leaving.subject, leaving.key, leaving.bound)
		left <- err
	}()
	until(t, "it waits", func() bool { return s.line.length() == 2 })
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("it left: %v, want Canceled", err)
	}
	release()
	succeed(t, done())
	sizes(t, s, 1)
}

// Nobody is registered when all have stopped waiting.
func testDeadline(t *testing.T, s *Store) {
	var taken []func()
	for range s.pool.Config().MaxConns {
		conn, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, conn.Release)
	}
	list := []*registration{asked("a", "team-a", 0), asked("b", "team-a", 0)}
	list[0].until, list[1].until = time.Now().Add(-time.Second), time.Now().Add(50*time.Millisecond)
	go s.registerTogether(list)
	for _, r := range list {
		select {
		case <-r.tried:
		case <-time.After(patience):
			t.Errorf("%s is still tried", r.subject.Value)
		}
	}
	for _, release := range taken {
		release()
	}
	sizes(t, s, 0)
}

// A panic is left to those who try alone.
func testPanic(t *testing.T, s *Store) {
	list := []*registration{asked("a", "team-a", 0), asked("b", "team-a", 0)}
	list[1].key = nil
	s.registerTogether(list)
	for _, r := range list {
		if <-r.tried; r.outcome != (outcome{}) {
			t.Errorf("%s: %+v", r.subject.Value, r.outcome)
		}
	}
	sizes(t, s, 0)
}

// Who is registered and does not hear of it gets the same mapping when it asks again.
func testLostAnswer(t *testing.T, s *Store) {
	list := []*registration{asked("a", "team-a", 2), asked("b", "team-a", 2)}
	outcomes, err := s.register(t.Context(), list, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range list {
		again := *r.key
		again.ID, again.Alias = keys.Secret("sk-again-"+r.subject.Value).ID(), "again "+r.subject.Value
		m, _, err := s.Register(t.Context(), r.subject, &again, 2)
		if err != nil || !reflect.DeepEqual(m, outcomes[i].mapping) {
			t.Errorf("%s: %+v, %v; want %+v", r.subject.Value, m, err, outcomes[i].mapping)
		}
	}
	sizes(t, s, 2)
}

// A connection that is dead fails none of those who were to use it.
func testDeadConnection(t *testing.T, s *Store) {
	other, err := Open(t.Context(), Options{URL: s.pool.Config().ConnString(), Timeout: patience, MaxConnections: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	release, done := waiting(t, other, asked("a", "team-a", 10), asked("b", "team-a", 10), asked("c", "", 0))
	execute(t, other, "SELECT 1")
	execute(t, s, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	release()
	succeed(t, done())
	sizes(t, s, 3)
}

// Two replicas that register the same subjects wait for each other, but never both.
func testTwoReplicas(t *testing.T, s *Store) {
	other := openTest(t, s.pool.Config().ConnString())
	for round := range 20 {
		var group sync.WaitGroup
		for replica, s := range []*Store{s, other} {
			var list []*registration
			for n := range mostTogether {
				r := asked(fmt.Sprint(round, "-", n), "", 0)
				r.key.ID, r.key.Alias = keys.Generate().ID(), ""
				list = append(list, r)
			}
			if replica == 1 {
				slices.Reverse(list)
			}
			group.Go(func() { s.registerTogether(list) })
		}
		group.Wait()
	}
	url := s.pool.Config().ConnString()
	s.Close()
	other.Close()
	third := openTest(t, url)
	until(t, "what the replicas counted is known", func() bool {
		return count(t, third, "SELECT numbackends FROM pg_stat_database WHERE datname = current_database()") == 1
	})
	if n := count(t, third, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); n != 0 {
		t.Errorf("%d times both waited", n)
	}
}

// Teams are locked in their order, once each, after what is counted without a team.
func TestLockOrder(t *testing.T) {
	var got []any
	for _, statement := range lockBounded([]*registration{asked("1", "team-c", 1), asked("2", "team-a", 1), asked("3", "", 1), asked("4", "team-b", 0), asked("5", "team-c", 1)}) {
		got = append(got, statement.SQL, statement.Arguments)
	}
	if want := []any{lockAdvisory, []any{int64(noTeamLock)}, lockTeams, []any{[]string{"team-a", "team-c"}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// testPlannedOnce: to plan the statement costs more than to run it.
func testPlannedOnce(t *testing.T, s *Store) {
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	const runs = 12
	for n := range runs {
		list := []*registration{asked(fmt.Sprint(n), "team-a", 100), asked(fmt.Sprint("other ", n), "", 0)}
		columns, err := columnsOf(list[:1+n%2], conn.Conn().TypeMap())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), registerKeys, columns...); err != nil {
			t.Fatal(err)
		}
	}
	var once int
	err = conn.QueryRow(t.Context(), "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1", registerKeys).Scan(&once)
	if err != nil || once < runs-5 {
		t.Errorf("%d of %d runs used a plan that was there, want at least %d: %v", once, runs, runs-5, err)
	}
}
