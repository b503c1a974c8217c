package store_test

import (
	"bytes"
	"database/sql"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/store/storetest"
)

func testWatch(t *testing.T, template *pgtest.Template) {
	setUp := func(t *testing.T) (*storetest.Watched, *sql.DB, string) {
		url := template.NewDatabase(t)
		return storetest.Watch(t, open(t, store.Options{URL: url, Timeout: patience})), raw(t, "pgx", url), url
	}
	t.Run("Bulk", func(t *testing.T) { w, db, _ := setUp(t); testWatchBulk(t, w, db) })
	t.Run("Unreadable", func(t *testing.T) { w, db, _ := setUp(t); testWatchUnreadable(t, w, db) })
	t.Run("OtherSearchPath", func(t *testing.T) { w, _, url := setUp(t); testWatchOtherSearchPath(t, w, url) })
	t.Run("Payload", func(t *testing.T) { _, db, url := setUp(t); testWatchPayload(t, db, url) })
	t.Run("Pooler", func(t *testing.T) { testWatchPooler(t, template.NewDatabase(t)) })
	t.Run("Terminated", func(t *testing.T) { w, db, _ := setUp(t); testWatchTerminated(t, w, db) })
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// testWatchBulk: many rows of one statement come in few notifications, and very many as all.
func testWatchBulk(t *testing.T, w *storetest.Watched, db *sql.DB) {
	exec(t, db, "INSERT INTO users (id) SELECT 'u' || n FROM generate_series(1, 1000) AS n")
	distinct := map[uint64]bool{}
	changes := w.Take(t)
	for _, c := range changes {
		for _, digest := range c.Digests {
			distinct[digest] = true
		}
	}
	if len(changes) != 3 || len(distinct) != 1000 || !distinct[cache.Digest("u1000")] {
		t.Errorf("%d rows in %d changes, want 1000 in 3", len(distinct), len(changes))
	}
	exec(t, db, "INSERT INTO users (id) SELECT 'v' || n FROM generate_series(1, 4001) AS n")
	everyUser(t, "4,001 rows", w.Take(t))
	exec(t, db, "UPDATE users SET spend_micros = 1") // thousands of rows, and nothing to tell
	if changes := w.Take(t); len(changes) != 0 {
		t.Errorf("spend is told: %d changes", len(changes))
	}
	exec(t, db, "TRUNCATE users")
	everyUser(t, "TRUNCATE", w.Take(t))
}

func everyUser(t *testing.T, what string, changes []store.Change) {
	t.Helper()
	if len(changes) != 1 || changes[0].Table != "users" || len(changes[0].Digests) != 0 || time.Since(changes[0].At) > time.Minute {
		t.Errorf("%s: told of %+v, want all users once", what, changes)
	}
}

// testWatchUnreadable: what cannot be read, of a later version or of somebody else, may be any change.
func testWatchUnreadable(t *testing.T, w *storetest.Watched, db *sql.DB) {
	payloads := []string{
		"", "x", "2 1 users *", "1 x users *", "1 1 users", "1 1 users 12", "1 1 users 0123456789abcdeg", "1 1 users ", "1 1 users * *",
		"1 1 users 0123456789abcdef0",
	}
	for _, payload := range payloads {
		exec(t, db, "SELECT pg_notify('extauthz_changes', '"+payload+"')")
	}
	changes := w.Take(t)
	if len(changes) != len(payloads) {
		t.Fatalf("told of %d changes, want %d", len(changes), len(payloads))
	}
	for n, c := range changes {
		if c.Table != "" || len(c.Digests) != 0 {
			t.Errorf("%q: told of %+v, want everything", payloads[n], c)
		}
	}
}

// testWatchOtherSearchPath: a session with another search_path, and without any right to the functions, can write.
func testWatchOtherSearchPath(t *testing.T, w *storetest.Watched, url string) {
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, statement := range []string{
		"CREATE ROLE clerk", "GRANT ALL ON public.users TO clerk", "GRANT USAGE ON SCHEMA public TO clerk",
		"SET search_path = ''", "SET ROLE clerk", "INSERT INTO public.users (id) VALUES ('u')",
		"RESET ROLE", "RESET search_path", "DELETE FROM users", "DROP OWNED BY clerk", "DROP ROLE clerk",
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if changes := w.Take(t); len(changes) != 2 {
		t.Errorf("told of %+v, want two changes", changes)
	}
}

// testWatchPayload listens as any role can: no value of a row is to be heard.
func testWatchPayload(t *testing.T, db *sql.DB, url string) {
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), "LISTEN extauthz_changes"); err != nil {
		t.Fatal(err)
	}
	key := strings.Repeat("ab", 32)
	exec(t, db, "INSERT INTO users (id, email) VALUES ('alice-secret', 'alice-secret@example.com')")
	exec(t, db, "INSERT INTO virtual_keys (id, alias) VALUES ('"+key+"', 'alias-secret')")
	exec(t, db, "INSERT INTO jwt_key_mappings (claim, value, key_id) VALUES ('sub-secret', 'value-secret', '"+key+"')")
	for range 3 {
		n, err := conn.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(n.Payload, "secret") || strings.Contains(n.Payload, key[:16]) {
			t.Errorf("payload %q", n.Payload)
		}
	}
}

// testWatchTerminated: a connection that the server ends is made again, and the gap is known.
func testWatchTerminated(t *testing.T, w *storetest.Watched, db *sql.DB) {
	for n := 1; n <= 3; n++ {
		exec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'extauthz changes'`)
		w.Until(t, "it is interrupted", func() bool { return w.Interruptions() >= n })
		w.Until(t, "it watches again", w.Watches)
		exec(t, db, "INSERT INTO users (id) VALUES (gen_random_uuid()::text)")
		if changes := w.Take(t); len(changes) == 0 {
			t.Error("no change is told after the connection was made again")
		}
	}
	for _, err := range w.Losses() {
		if !strings.HasPrefix(err.Error(), "postgres: watch: ") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("interrupted: %v", err)
		}
	}
}

// testWatchPooler: behind a pooler the client's process id is none of the server's. What is heard there is not trusted.
func testWatchPooler(t *testing.T, url string) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	server := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	s := open(t, store.Options{URL: strings.Replace(url, server, poolerTo(t, server), 1), Timeout: patience})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := storetest.NewWatched(t, s)
	w.Until(t, "it refuses", func() bool { return w.Interruptions() > 0 })
	if losses := w.Losses(); !strings.Contains(losses[0].Error(), "pooler") || w.Watches() {
		t.Errorf("interrupted: %v", losses)
	}
}

// poolerTo passes connections on, but with a process id of its own in the server's BackendKeyData.
func poolerTo(t *testing.T, server string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go pool(client, server)
		}
	}()
	return listener.Addr().String()
}

func pool(client net.Conn, server string) {
	defer func() { _ = client.Close() }()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	go func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buffer)
		if at := bytes.Index(buffer[:n], []byte("K\x00\x00\x00\x0c")); at >= 0 {
			buffer[at+5] ^= 1
		}
		if _, failed := client.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}
