package authz

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// countedVerifier is a Verifier whose calls are counted.
type countedVerifier struct {
	Verifier
	calls int
}

func (v *countedVerifier) Verify(ctx context.Context, bearer string) (token.Claims, error) {
	v.calls++
	return v.Verifier.Verify(ctx, bearer)
}

// A token that was verified is not verified again, while that still holds. It stands for no other token, and not
// before another verifier.
func TestRememberedTokens(t *testing.T) {
	i := issuertest.New(t, localissuer.Algorithms("ES256"), localissuer.Audience("llm"))
	now := time.Now()
	url := token.IssuerURL(i.URL())
	callers, err := NewCallers(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(callers.Close)
	authorizer := func(audience string) (*Authorizer, *countedVerifier) {
		v, err := token.NewVerifier([]token.Issuer{{URL: url, Audiences: []string{audience}}}, token.Options{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		counted := &countedVerifier{Verifier: v}
		return &Authorizer{
			Verifier: counted, Callers: callers, Resolver: mapping.NewResolver(mapping.Config{}, nil),
			Claims: map[token.IssuerURL]teams.ClaimPaths{url: {UserID: claimPath("sub")}},
		}, counted
	}
	a, verifier := authorizer("llm")
	bearer := i.Mint(map[string]any{"sub": "alice", "exp": now.Add(time.Hour).Unix()})
	deadline := time.Now().Add(10 * time.Second)
	for remembered := false; !remembered; { // it need not be at once
		before := verifier.calls
		c, err := a.authenticate(t.Context(), bearer)
		if err != nil || c.identity.UserID != "alice" || time.Now().After(deadline) {
			t.Fatalf("%+v, %v after %d calls", c, err, verifier.calls)
		}
		remembered = verifier.calls == before
	}
	for _, at := range []int{0, len(bearer) / 4, len(bearer) / 2, len(bearer) - 10} {
		other := bearer[:at] + strings.Repeat("A", 5) + bearer[at+5:]
		if _, err := a.authenticate(t.Context(), other); err == nil {
			t.Errorf("a token that differs at byte %d is taken for the one that was verified", at)
		}
	}
	for range 2 {
		if other, _ := authorizer("others"); !errors.Is(failure(other.authenticate(t.Context(), bearer)), token.ErrAudienceMismatch) {
			t.Error("a verifier that does not accept it takes what another verified")
		}
	}
	now = now.Add(2 * time.Hour)
	for range 2 {
		if err := failure(a.authenticate(t.Context(), bearer)); !errors.Is(err, token.ErrExpired) {
			t.Errorf("after its end: %v", err)
		}
	}
	a.Callers = nil
	if err := failure(a.authenticate(t.Context(), bearer)); !errors.Is(err, token.ErrExpired) {
		t.Errorf("without a memory: %v", err)
	}
}

func failure(_ *caller, err error) error { return err }
