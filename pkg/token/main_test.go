package token_test

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is what tests judge time by. It stands still unless advanced.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rig is an issuer, a verifier that trusts it, and the clock of both.
type rig struct {
	*issuertest.Issuer
	*clock
	verifier *token.Verifier
}

func newRig(t testing.TB, opts ...localissuer.Option) *rig {
	t.Helper()
	return newRigWith(t, func(*token.Issuer) {}, opts...)
}

func newRigWith(t testing.TB, change func(*token.Issuer), opts ...localissuer.Option) *rig {
	t.Helper()
	c := newClock()
	opts = append([]localissuer.Option{localissuer.Now(c.Now), localissuer.Algorithms("ES256")}, opts...)
	i := issuertest.New(t, opts...)
	config := token.Issuer{URL: token.IssuerURL(i.URL()), Audiences: []string{"extauthz"}, JWKSURL: i.JWKSURL()}
	change(&config)
	return &rig{Issuer: i, clock: c, verifier: newVerifier(t, c, config)}
}

func newVerifier(t testing.TB, c *clock, issuers ...token.Issuer) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(issuers, token.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sentinels by the name that a failed test shows.
func sentinels() map[string]error {
	return map[string]error{
		"malformed": token.ErrMalformed, "invalid": token.ErrInvalid, "expired": token.ErrExpired,
		"not yet valid": token.ErrNotYetValid, "issuer unknown": token.ErrIssuerUnknown,
		"audience mismatch": token.ErrAudienceMismatch, "issuer unavailable": token.ErrIssuerUnavailable,
	}
}

// classOf names the one sentinel that err wraps; "" is no error.
func classOf(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(sentinels())) {
		if errors.Is(err, sentinels()[name]) {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		t.Fatalf("error %q wraps the sentinels %q, want exactly one", err, names)
	}
	return names[0]
}

// wantVerdict verifies raw and checks the error's class, "" for a token that is good.
func (r *rig) wantVerdict(t testing.TB, raw, want string) {
	t.Helper()
	claims, err := r.verifier.Verify(t.Context(), raw)
	if got := classOf(t, err); got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
	if err != nil && (claims.Values != nil || claims.Issuer != "" || !claims.Expiry.IsZero()) {
		t.Errorf("claims of a refused token: %+v", claims)
	}
}
