package differential

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/pkg/token"
)

// rule is a reason to differ, known by a part of the error of the one that refuses.
type rule struct{ part, reason string }

// strictness is why the verifier alone refuses.
func strictness() []rule {
	return []rule{
		{"header: typ ", "only listed types are access tokens (RFC 8725 section 3.11)"},
		{"member name twice", "which of the two counts, readers decide differently (RFC 8725 section 2.4)"},
		{"not strict JSON", "lone surrogates become U+FFFD, and two subjects one"},
		{"not a JSON object", "a byte order mark is no JSON (RFC 8259 section 8.1)"},
		{"nested deeper than 32", "parsing is bounded"},
		{"longer than 16384 bytes", "parsing is bounded"},
		{"b64 is not supported", "without crit, readers decide differently (RFC 7797 section 6)"},
		{"is not a date", "dates are in 0 < n < 2^53, where numbers are exact"},
		{"exp is more than 24h0m0s after iat", "lifetimes are bounded"},
	}
}

// laxness is why one library alone refuses: joserfc in each case.
func laxness() []rule {
	return []rule{
		{"UnsupportedHeaderError", "members that nobody reads are ignored (RFC 7515 section 4)"},
		{"InvalidHeaderValueError", "jwk, jku, x5u and the like are not read, whatever they hold"},
		{"ExceededSizeError", "the bound is on the token, not on its header"},
		{"InvalidKeyIdError", "without a kid, the only key that fits is meant"},
		{"Claim 'sub'", "a sub that is no string counts as missing when it is needed"},
		{"Claim 'jti'", "nothing reads jti"},
	}
}

// uses counts which rules explain an outcome.
type uses struct {
	rules []rule
	count map[string]int
}

func (u uses) explain(text string) bool {
	for _, r := range u.rules {
		if strings.Contains(text, r.part) {
			u.count[r.part]++
			return true
		}
	}
	return false
}

// done checks that each rule explains something.
func (u uses) done(t *testing.T) {
	t.Helper()
	for _, r := range u.rules {
		t.Logf("%5d × %q: %s", u.count[r.part], r.part, r.reason)
		if u.count[r.part] == 0 {
			t.Errorf("%q explains nothing", r.part)
		}
	}
}

func TestAgainstTwoLibraries(t *testing.T) {
	own, others := testKeys(t)
	p := policy{
		Keys: published(own), Issuer: "https://idp.example.com/realms/acme", Audience: "extauthz",
		Algorithms: []string{"RS256", "ES256", "EdDSA"}, Now: 1_800_000_000, Leeway: 30,
	}
	verifier := newVerifier(t, p)
	corpus := newCorpus(p, own, others).samples
	python, node := joserfc(t, p, corpus), jose(t, p, corpus)
	stricter, laxer := uses{strictness(), map[string]int{}}, uses{laxness(), map[string]int{}}
	accepted := [3]int{}
	for n, s := range corpus {
		_, err := verifier.Verify(t.Context(), s.token)
		verdicts := [3]bool{err == nil, python[n] == "accept", node[n] == "accept"}
		for who, accepts := range verdicts {
			if accepts {
				accepted[who]++
			}
			if plain := s.class == good || s.class == foreign; plain && accepts != (s.class == good) {
				t.Errorf("%s: %v by %d of verifier, joserfc, jose: %s", s.class, accepts, who, s.token)
			}
		}
		switch verdicts {
		case [3]bool{true, false, false}:
			t.Errorf("%s: accepted, but %s, and %s: %s", s.class, python[n], node[n], s.token)
		case [3]bool{false, true, true}:
			if !stricter.explain(err.Error()) {
				t.Errorf("%s: refused alone: %v: %s", s.class, err, s.token)
			}
		case [3]bool{true, false, true}, [3]bool{true, true, false}:
			if !laxer.explain(python[n] + node[n]) {
				t.Errorf("%s: %s, %s: %s", s.class, python[n], node[n], s.token)
			}
		}
	}
	t.Logf("of %d tokens the verifier accepts %d, joserfc %d, jose %d", len(corpus), accepted[0], accepted[1], accepted[2])
	if len(corpus) < 9000 || min(accepted[0], accepted[1], accepted[2]) < 1000 || max(accepted[0], accepted[1], accepted[2]) > len(corpus)/2 {
		t.Error("the corpus is too small or one-sided")
	}
	stricter.done(t)
	laxer.done(t)
}

func newVerifier(t *testing.T, p policy) *token.Verifier {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(p.Keys)
	}))
	t.Cleanup(server.Close)
	verifier, err := token.NewVerifier([]token.Issuer{{
		URL: token.IssuerURL(p.Issuer), Audiences: []string{p.Audience}, JWKSURL: server.URL,
		Algorithms: p.Algorithms, Leeway: time.Duration(p.Leeway) * time.Second,
	}}, token.Options{Now: func() time.Time { return time.Unix(p.Now, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}
