package token_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/token"
)

// serveKeys answers with a JWKS of these entries.
func serveKeys(entries ...any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": entries})
	}
}

func serveText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, text) }
}

// keyEntry is a JWK with more members; nil as a value removes one.
func keyEntry(public crypto.PublicKey, members ...any) map[string]any {
	jwk := localissuer.JWK(public)
	for n := 0; n < len(members); n += 2 {
		jwk[members[n].(string)] = members[n+1]
	}
	return jwk
}

func (r *rig) wantRequests(t *testing.T, want int) {
	t.Helper()
	if got := r.Requests(); got != want {
		t.Errorf("the JWKS was fetched %d times, want %d", got, want)
	}
}

func TestRotationIn(t *testing.T) {
	r := newRig(t)
	old := r.Mint(nil)
	r.wantVerdict(t, old, "")
	r.Overlap()
	r.wantVerdict(t, r.Mint(nil), "")
	r.wantVerdict(t, old, "")
	r.wantRequests(t, 2)
}

// TestRotationOut is CVE-2025-22149: a key that the issuer withdrew must stop verifying.
func TestRotationOut(t *testing.T) {
	r := newRig(t)
	old := r.Mint(nil)
	r.wantVerdict(t, old, "")
	r.Rotate()
	r.wantVerdict(t, old, "") // nobody has fetched the new set yet
	r.wantVerdict(t, r.Mint(nil), "")
	r.wantVerdict(t, old, "invalid")
}

func TestUnknownKidFloodFetchesOnce(t *testing.T) {
	r := newRig(t)
	r.wantVerdict(t, r.Mint(nil), "")
	flood := func() {
		var group sync.WaitGroup
		for n := range 50 {
			raw := r.Mint(nil, localissuer.Kid(fmt.Sprint("made-up-", n)))
			group.Go(func() { r.wantVerdict(t, raw, "invalid") })
		}
		group.Wait()
	}
	flood()
	r.wantRequests(t, 2)
	r.Advance(10*time.Second - 1)
	flood()
	r.wantRequests(t, 2)
	r.Advance(1)
	flood()
	r.wantRequests(t, 3)
}

// TestUnknownKidWhileTheIssuerFails checks that a made-up kid makes no outage of a failing endpoint.
func TestUnknownKidWhileTheIssuerFails(t *testing.T) {
	r := newRig(t)
	known, madeUp := r.Mint(nil), r.Mint(nil, localissuer.Kid("made-up"))
	r.wantVerdict(t, known, "")
	r.Down()
	r.wantVerdict(t, madeUp, "invalid")
	r.wantVerdict(t, known, "")
	r.Up()
	r.wantVerdict(t, madeUp, "invalid")
	r.wantRequests(t, 2)
}

func TestDownAtStartThenUp(t *testing.T) {
	r := newRig(t)
	raw := r.Mint(nil)
	r.Down()
	r.wantVerdict(t, raw, "issuer unavailable")
	r.wantVerdict(t, raw, "issuer unavailable")
	r.wantRequests(t, 1) // the second fell into the backoff of 1 s
	if err := r.verifier.Ready(); !errors.Is(err, token.ErrIssuerUnavailable) || !strings.Contains(err.Error(), r.URL()) {
		t.Errorf("Ready: %v", err)
	}
	r.Up()
	r.wantVerdict(t, raw, "issuer unavailable")
	r.Advance(time.Second)
	r.wantVerdict(t, raw, "")
	r.wantRequests(t, 2)
	if err := r.verifier.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
}

// TestFirstLoadOutlivesItsCaller cancels the caller that started the fetch while the server works on it.
func TestFirstLoadOutlivesItsCaller(t *testing.T) {
	r := newRig(t)
	raw := r.Mint(nil)
	answer := serveKeys(keyEntry(r.PrivateKey("ES256").Public(), "kid", "ES256-1"))
	arrived, release := make(chan struct{}), make(chan struct{})
	r.Respond(func(w http.ResponseWriter, q *http.Request) {
		arrived <- struct{}{}
		<-release
		answer(w, q)
	})
	first, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := r.verifier.Verify(first, raw)
		left <- err
	}()
	<-arrived
	cancel()
	if class := classOf(t, <-left); class != "issuer unavailable" {
		t.Errorf("cancelled caller: %q", class)
	}
	close(release)
	r.wantVerdict(t, raw, "") // shares that fetch, or finds its keys
	r.wantRequests(t, 1)
}

// TestFirstLoadWithUnknownKid checks that a caller whose own fetch lacks its kid does not start a second.
func TestFirstLoadWithUnknownKid(t *testing.T) {
	r := newRig(t)
	r.wantVerdict(t, r.Mint(nil, localissuer.Kid("made-up")), "invalid")
	r.wantRequests(t, 1)
}

// TestLastGoodKeysStay breaks the endpoint in every way and checks that the keys stay, until MaxAge.
func TestLastGoodKeysStay(t *testing.T) {
	ways := map[string]http.HandlerFunc{
		"status 500":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"status 204":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"empty":           serveText(""),
		"HTML":            serveText("<html>login</html>"),
		"null":            serveText("null"),
		"no keys member":  serveText("{}"),
		"empty key list":  serveKeys(),
		"only enc keys":   serveKeys(map[string]any{"kty": "RSA", "use": "enc"}),
		"text after":      serveText(`{"keys":[]} x`),
		"more than 1 MiB": serveText(`{"keys":[], "x":"` + strings.Repeat("x", 1<<20) + `"}`),
		"closed connection": func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		},
	}
	for name, respond := range ways {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, func(i *token.Issuer) { i.MaxAge = time.Hour })
			known, madeUp := r.Mint(nil), r.Mint(nil, localissuer.Kid("made-up"))
			r.wantVerdict(t, known, "")
			r.Respond(respond)
			r.wantVerdict(t, madeUp, "invalid")
			r.wantRequests(t, 2)
			r.wantVerdict(t, known, "")
			if s := r.verifier.Status()[0]; !s.Ready || s.LastError == nil {
				t.Errorf("status %+v", s)
			}
			r.Advance(time.Hour)
			long := r.Mint(nil)
			r.wantVerdict(t, long, "")
			r.Advance(1)
			r.wantVerdict(t, long, "issuer unavailable")
			r.wantVerdict(t, madeUp, "issuer unavailable")
		})
	}
}

// TestRedirectIsNotFollowed redirects to a server that has the right keys.
func TestRedirectIsNotFollowed(t *testing.T) {
	r := newRig(t)
	target := issuertest.New(t, localissuer.Algorithms("ES256"))
	target.Publish(keyEntry(r.PrivateKey("ES256").Public(), "kid", "ES256-1"))
	for _, status := range []int{301, 302, 303, 307, 308} {
		r.Respond(func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, target.JWKSURL(), status) })
		r.Advance(time.Minute)
		r.wantVerdict(t, r.Mint(nil), "issuer unavailable")
	}
	if target.Requests() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestBadEntriesAreSkipped(t *testing.T) {
	r := newRig(t)
	r.Publish(map[string]any{"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}, "not an object", nil, 1,
		map[string]any{"kty": "oct", "kid": "secret", "k": "AAAA"})
	r.wantVerdict(t, r.Mint(nil), "")
	if s := r.verifier.Status()[0]; s.Keys != 1 || s.Skipped != 5 {
		t.Errorf("status %+v", s)
	}
}

// TestConcurrentUse is for the race detector: verdicts, rotations, made-up kids and Status at once.
func TestConcurrentUse(t *testing.T) {
	r := newRigWith(t, func(i *token.Issuer) { i.MaxLifetime = time.Hour })
	known, madeUp := r.Mint(nil), r.Mint(nil, localissuer.Kid("made-up"))
	r.wantVerdict(t, known, "")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 25 {
				r.wantVerdict(t, known, "")
				r.wantVerdict(t, madeUp, "invalid")
				r.verifier.Status()
			}
		})
	}
	for range 10 {
		r.Advance(10 * time.Second)
		r.Overlap()
		r.wantVerdict(t, madeUp, "invalid")
	}
	group.Wait()
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	if s := r.verifier.Status()[0]; s.Ready || s.Keys != 0 || !s.FetchedAt.IsZero() || s.Age != 0 || s.LastError != nil {
		t.Errorf("before the first fetch: %+v", s)
	}
	r.wantVerdict(t, r.Mint(nil), "")
	fetched := r.Now()
	r.Advance(time.Minute)
	s := r.verifier.Status()[0]
	if !s.Ready || s.Keys != 1 || !s.FetchedAt.Equal(fetched) || s.Age != time.Minute || string(s.Issuer) != r.URL() {
		t.Errorf("after a minute: %+v", s)
	}
}

// TestRunFetchesAtOnce runs against a real server; what Run does later is tested with a fake clock.
func TestRunFetchesAtOnce(t *testing.T) {
	r := newRig(t)
	fetched := make(chan error)
	v, err := token.NewVerifier([]token.Issuer{{
		URL: token.IssuerURL(r.URL()), Audiences: []string{"extauthz"}}},
		token.Options{Now: r.Now, Fetched: func(_ token.IssuerURL, _ time.Duration, err error) { fetched <- err }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.Run(ctx)
	}()
	if err := <-fetched; err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
	if err := v.Ready(); err != nil {
		t.Error(err)
	}
}

// TestIssuersFailAlone hangs one issuer, whose callers wait out their time; the other's tokens are not delayed, and
// its made-up kids do not use up what the first may fetch.
func TestIssuersFailAlone(t *testing.T) {
	r := newRig(t)
	other := issuertest.New(t, localissuer.Now(r.Now), localissuer.Algorithms("ES256"))
	config := func(i *issuertest.Issuer) token.Issuer {
		return token.Issuer{URL: token.IssuerURL(i.URL()), Audiences: []string{"extauthz"}, JWKSURL: i.JWKSURL()}
	}
	r.verifier = newVerifier(t, r.clock, config(r.Issuer), config(other))
	arrived, release := make(chan struct{}), make(chan struct{})
	other.Respond(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})
	waited, raw := make(chan error), other.Mint(nil)
	go func() {
		_, err := r.verifier.Verify(t.Context(), raw)
		waited <- err
	}()
	<-arrived
	r.wantVerdict(t, r.Mint(nil), "")
	r.wantVerdict(t, r.Mint(nil, localissuer.Kid("made-up")), "invalid")
	close(release)
	if class := classOf(t, <-waited); class != "issuer unavailable" {
		t.Errorf("the hanging issuer's token: %q", class)
	}
	other.Respond(nil)
	r.Advance(time.Second) // the backoff
	r.wantVerdict(t, other.Mint(nil), "")
	other.Overlap()
	r.wantVerdict(t, other.Mint(nil), "")
}

// TestCachingHeadersAreIgnored promises that the keys stay for a year, and withdraws them.
func TestCachingHeadersAreIgnored(t *testing.T) {
	r := newRig(t)
	answer := serveKeys(keyEntry(r.PrivateKey("ES256").Public(), "kid", "ES256-1"))
	r.Respond(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		w.Header().Set("ETag", `"1"`)
		if q.Header.Get("If-None-Match") != "" {
			t.Error("asked whether the keys have changed")
		}
		answer(w, q)
	})
	old := r.Mint(nil)
	r.wantVerdict(t, old, "")
	r.Respond(nil)
	r.Rotate()
	r.wantVerdict(t, r.Mint(nil), "")
	r.wantVerdict(t, old, "invalid")
}
