package adversary

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/pkg/token"
)

// security is the page that tells what the suite found.
const security = "docs/security.md"

// TestStockLibraries gives the hostile tokens to golang-jwt with keyfunc, used as their documentation says: allowed
// methods, issuer, audience, exp required, leeway. It counts what they accept and what we accept, and requires that
// docs/security.md tells these numbers.
func TestStockLibraries(t *testing.T) {
	w := newWorld(t)
	stock, ours := newStockVerifiers(t, w), newVerifier(t, w)
	good, err := newAttempt(w, Case{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Verify(t.Context(), good.token); err != nil || !stock[w.home.URL()].accepts(good.token) {
		t.Fatalf("a good token is refused: the comparison would say nothing (%v)", err)
	}
	page := read(t, envoytest.ModuleRoot(t)+"/"+security)
	rows := []string{}
	total := tally{}
	for _, g := range groups() {
		n := tally{}
		for _, c := range g.Cases {
			a, err := newAttempt(w, c)
			if err != nil {
				t.Fatal(err)
			}
			n.count(c)
			if forgery := strings.HasPrefix(g.Name, "token/") || g.Name == keySets; forgery && c.Want.refusesToken() {
				n.compare(t, c, a, stock, ours)
			}
		}
		total.add(n)
		rows = append(rows, n.row(g.Name))
	}
	rows = append(rows, fmt.Sprintf("| configuration mistakes | %d | | | |", len(mistakes())),
		fmt.Sprintf("| refused rows | %d | | | |", len(refusedRows())),
		fmt.Sprintf("| refused SQL | %d | | | |", len(refusedStatements())))
	total.denied += len(mistakes()) + len(refusedRows()) + len(refusedStatements())
	rows = append(rows, total.row("all"))
	table := strings.Join(rows, "\n")
	t.Logf("\n%s", table)
	if total.ours != 0 {
		t.Errorf("we accept %d hostile tokens", total.ours)
	}
	if !strings.Contains(page, table) {
		t.Errorf("%s has another table than\n%s", security, table)
	}
}

// tally counts the cases of a group.
type tally struct {
	denied, controls int
	tokens           int // denied for the token itself
	stock, ours      int // of those, accepted
}

func (n *tally) add(more tally) {
	n.denied, n.controls, n.tokens = n.denied+more.denied, n.controls+more.controls, n.tokens+more.tokens
	n.stock, n.ours = n.stock+more.stock, n.ours+more.ours
}

func (n *tally) row(group string) string {
	if n.tokens == 0 {
		return fmt.Sprintf("| %s | %d | %d | | |", group, n.denied, n.controls)
	}
	return fmt.Sprintf("| %s | %d | %d | %d of %d | %d |", group, n.denied, n.controls, n.stock, n.tokens, n.ours)
}

func (n *tally) count(c Case) {
	if c.Want.allowed() {
		n.controls++
	} else {
		n.denied++
	}
}

// refusesToken reports whether it is the token that is denied, and not what its caller may do.
func (w want) refusesToken() bool { return w.status == 401 || w.status == 503 }

func (n *tally) compare(t *testing.T, c Case, a *attempt, stock map[string]*stockVerifier, ours *token.Verifier) {
	t.Helper()
	n.tokens++
	issuer, _ := a.claims["iss"].(string)
	if verifier := stock[issuer]; verifier != nil && verifier.accepts(a.token) {
		n.stock++
		t.Logf("the stock libraries accept: %s (%s)", c.Name, c.Basis)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := ours.Verify(ctx, a.token); err == nil {
		n.ours++
		t.Errorf("we accept: %s (%s)", c.Name, c.Basis)
	}
}

// newVerifier is ours, as the server has it.
func newVerifier(t *testing.T, w *world) *token.Verifier {
	t.Helper()
	var issuers []token.Issuer
	for _, i := range w.configured() {
		issuers = append(issuers, token.Issuer{URL: token.IssuerURL(i.URL()), Audiences: []string{i.Audience()}})
	}
	v, err := token.NewVerifier(issuers, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// configured are the issuers of the configuration.
func (w *world) configured() []*issuertest.Issuer {
	list := []*issuertest.Issuer{w.home, w.other}
	for _, i := range w.hostile {
		list = append(list, i)
	}
	return list
}

// stockVerifier is golang-jwt with keyfunc for one issuer.
type stockVerifier struct {
	parser *jwt.Parser
	keys   keyfunc.Keyfunc
}

func newStockVerifiers(t *testing.T, w *world) map[string]*stockVerifier {
	t.Helper()
	verifiers := make(map[string]*stockVerifier)
	for _, i := range w.configured() {
		keys, err := keyfunc.NewJWKSetJSON(fetched(i.JWKSURL()))
		if err != nil {
			continue // it has no keys, so it accepts nothing
		}
		verifiers[i.URL()] = &stockVerifier{keys: keys, parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"RS256", "ES256", "EdDSA"}), jwt.WithIssuer(i.URL()), jwt.WithAudience(i.Audience()),
			jwt.WithExpirationRequired(), jwt.WithLeeway(30*time.Second))}
	}
	if verifiers[w.home.URL()] == nil {
		t.Fatal("the stock libraries do not take the home issuer's key set: they would refuse everything")
	}
	return verifiers
}

// fetched is what an issuer serves in place of its keys; nil if that is too much, too late, or no answer.
func fetched(url string) []byte {
	client := &http.Client{Timeout: 5 * time.Second, // only the slow issuer takes it
		Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return nil
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil || response.StatusCode != http.StatusOK {
		return nil
	}
	return body
}

func (v *stockVerifier) accepts(text string) bool {
	parsed, err := v.parser.Parse(text, v.keys.Keyfunc)
	return err == nil && parsed.Valid
}

// TestThreatsNameEveryGroup: the page's threats point at each group of cases, and at none that does not exist.
func TestThreatsNameEveryGroup(t *testing.T) {
	_, threats, _ := strings.Cut(read(t, envoytest.ModuleRoot(t)+"/"+security), "\n## Threats\n")
	threats, _, _ = strings.Cut(threats, "\n## ")
	named := make(map[string]bool)
	for _, match := range regexp.MustCompile("`([a-z]+/[a-z ]+)`").FindAllStringSubmatch(threats, -1) {
		named[match[1]] = true
	}
	for _, g := range groups() {
		if !named[g.Name] {
			t.Errorf("no threat names the group %s", g.Name)
		}
		delete(named, g.Name)
	}
	for name := range named {
		t.Errorf("there is no group %s", name)
	}
}
