package adversary

import (
	"crypto"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // hand-written SQL in PostgreSQL
	_ "modernc.org/sqlite"             // and in SQLite

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/pkg/keys"
)

// audience is the home issuer's name for this service.
const audience = "llm-gateway"

// world is what all cases have in common: the issuers, the attacker's keys, and the texts of the virtual keys.
type world struct {
	home, other *issuertest.Issuer // configured, each with keys and an audience of its own
	stranger    *issuertest.Issuer // not configured: nothing is ever fetched from it
	hostile     map[string]*issuertest.Issuer
	attacker    attackerKeys
	published   map[string]crypto.PrivateKey // of the home issuer's further keys
	oct         []byte
	secrets     map[string]string // of the virtual keys, by alias
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		home:     issuertest.New(t, localissuer.Audience(audience), localissuer.Algorithms("ES256", "RS256", "EdDSA")),
		other:    issuertest.New(t, localissuer.Audience("other-gateway"), localissuer.Algorithms("ES256")),
		stranger: issuertest.New(t, localissuer.Audience(audience), localissuer.Algorithms("ES256")),
		hostile:  make(map[string]*issuertest.Issuer),
		attacker: newAttackerKeys(t),
		oct:      []byte(rand.Text()),
		secrets:  newSecrets(t),
	}
	w.other.Overlap() // two keys, so that a token without kid has none
	var err error
	if w.published, err = newPublishedKeys(); err != nil {
		t.Fatal(err)
	}
	w.home.Publish(w.furtherKeys()...)
	for _, c := range hostileIssuers() {
		i := issuertest.New(t, localissuer.Audience(audience), localissuer.Algorithms("ES256"))
		c.serve(w, i)
		w.hostile[c.name] = i
	}
	return w
}

// furtherKeys stand in the home issuer's key set behind its own. But for any-rsa, they must verify nothing.
func (w *world) furtherKeys() []any {
	entry := func(kid, name, alg string, members ...any) map[string]any {
		jwk := named(w.published[kid].(crypto.Signer).Public(), name, alg)
		for n := 0; n < len(members); n += 2 {
			jwk[members[n].(string)] = members[n+1]
		}
		return jwk
	}
	wrapping := entry("wrapping", "wrapping", "ES256", "key_ops", []string{"wrapKey"})
	delete(wrapping, "use")
	anyRSA, anyP384 := entry("any-rsa", "any-rsa", ""), entry("any-p384", "any-p384", "")
	delete(anyRSA, "alg")
	delete(anyP384, "alg")
	return []any{
		entry("encryption", "encryption", "ES256", "use", "enc"), wrapping,
		entry("rsa-1024", "rsa-1024", "RS256"), entry("pinned-ps256", "pinned-ps256", "PS256"), entry("p384", "p384", "ES384"),
		entry("twice", "twice", "ES256"), entry("twice, again", "twice", "ES256"), octKey(w), anyRSA, anyP384,
	}
}

// hash is the id of a virtual key.
func (w *world) hash(alias string) string { return string(keys.Secret(w.secrets[alias]).ID()) }

// resources are testdata/resources.yaml with the keys' texts.
func (w *world) resources(t *testing.T) string {
	t.Helper()
	text := keyLine().ReplaceAllStringFunc(read(t, "testdata/resources.yaml"), func(line string) string {
		return line + " secret: " + w.secrets[keyLine().FindStringSubmatch(line)[1]] + ","
	})
	return strings.NewReplacer("$home", w.home.URL(), "$other", w.other.URL()).Replace(text)
}

// newSecrets makes a text for each key in testdata/resources.yaml.
func newSecrets(t *testing.T) map[string]string {
	t.Helper()
	secrets := make(map[string]string)
	for _, line := range keyLine().FindAllStringSubmatch(read(t, "testdata/resources.yaml"), -1) {
		secrets[line[1]] = string(keys.Generate())
	}
	return secrets
}

func keyLine() *regexp.Regexp { return regexp.MustCompile(`\{alias: ([a-z-]+),`) }

// config is testdata/extauthz.yaml with the hostile issuers.
func (w *world) config(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	text.WriteString(read(t, "testdata/extauthz.yaml"))
	for _, c := range hostileIssuers() {
		fmt.Fprintf(&text, "- issuer: %s\n  audiences: [%s]\n  claims: {user_id: sub, team_id: team, roles: realm_access.roles}\n", w.hostile[c.name].URL(), audience)
	}
	return text.String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// database is a store's database, reachable for hand-written SQL as well.
type database struct {
	driver, source, url string
	pg                  *pgtest.Server // nil for SQLite
}

func newPostgres(t *testing.T, server *pgtest.Server) database {
	t.Helper()
	url := server.NewDatabase(t)
	return database{driver: "pgx", source: url, url: url, pg: server}
}

func newSQLite(t *testing.T) database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "extauthz.db")
	return database{driver: "sqlite", source: "file:" + path + "?_pragma=busy_timeout(5000)", url: "sqlite:" + path}
}

// exec runs statements on one connection, past the product.
func (d database) exec(t *testing.T, statements ...string) error {
	t.Helper()
	opened, err := sql.Open(d.driver, d.source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	connection, err := opened.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	for _, statement := range statements {
		if _, err := connection.ExecContext(t.Context(), statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// dangle takes the key of a mapping away, which the schema does not let anybody do.
func (d database) dangle(t *testing.T, hash string) {
	t.Helper()
	off := "PRAGMA foreign_keys = off"
	if d.pg != nil {
		off = "SET session_replication_role = replica" // no triggers, so no foreign keys
	}
	if err := d.exec(t, off, "DELETE FROM virtual_keys WHERE id = '"+hash+"'"); err != nil {
		t.Fatal(err)
	}
}
