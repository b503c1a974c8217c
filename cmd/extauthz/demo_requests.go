package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/extauthz/extauthz/internal/echo"
)

// demoRequest is one of the four requests of the demo, and what must become of it.
type demoRequest struct {
	title  string
	claims map[string]any
	status int
	reason string // "" for an allowed one
}

func demoRequests(now time.Time) []demoRequest {
	roles := map[string]any{"roles": []string{"llm_user"}}
	return []demoRequest{
		{"alice, whose sub is mapped to a virtual key", map[string]any{
			"sub": "alice", "email": "alice@corp.example.com", "team_id": "research", "realm_access": roles}, 200, ""},
		{"bob, a member of the team whom no mapping knows", map[string]any{
			"sub": "bob", "team_id": "research", "realm_access": roles}, 403, "no_mapping"},
		{"carol, whose token names no team", map[string]any{"sub": "carol", "realm_access": roles}, 403, "team_missing"},
		{"alice again, with a token that expired an hour ago", map[string]any{
			"sub": "alice", "team_id": "research", "realm_access": roles,
			"iat": now.Add(-2 * time.Hour).Unix(), "exp": now.Add(-time.Hour).Unix()}, 401, "token_expired"},
	}
}

const (
	demoPath = "/v1/chat/completions"
	demoBody = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}`
)

// requests sends the four requests and fails if one is not answered as it must be.
func (d *demo) requests(ctx context.Context) error {
	for n, request := range demoRequests(time.Now()) {
		d.print("\n%d. %s\n", n+1, request.title)
		token, err := d.issuer.Mint(request.claims)
		if err != nil {
			return err
		}
		answer, err := d.send(ctx, token)
		if err != nil {
			return err
		}
		if answer.status != request.status || answer.reason != request.reason {
			return fmt.Errorf("demo: %s: got %d %q, want %d %q", request.title, answer.status, answer.reason, request.status, request.reason)
		}
		if err := d.show(answer); err != nil {
			return err
		}
	}
	return nil
}

// demoAnswer is what came back through Envoy.
type demoAnswer struct {
	status int
	reason string
	body   []byte
}

func (d *demo) send(ctx context.Context, token string) (demoAnswer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.front.URL+demoPath, strings.NewReader(demoBody))
	if err != nil {
		return demoAnswer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Extauthz-Team-Id", "spoofed") // must not reach the upstream
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return demoAnswer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return demoAnswer{response.StatusCode, response.Header.Get("x-extauthz-reason"), body}, err
}

func (d *demo) show(a demoAnswer) error {
	if a.reason != "" {
		d.print("   denied: %d %s\n   %s\n", a.status, a.reason, a.body)
		return nil
	}
	d.print("   allowed: %d; the upstream saw no token, and these headers:\n", a.status)
	var seen echo.Request
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(&seen); err != nil {
		return fmt.Errorf("demo: the upstream's answer: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(seen.Headers)) {
		lower := strings.ToLower(name)
		if lower == "authorization" {
			return fmt.Errorf("demo: the token reached the upstream")
		}
		if strings.HasPrefix(lower, "x-extauthz-") {
			d.print("   %s: %s\n", lower, strings.Join(seen.Headers[name], ", "))
		}
	}
	return nil
}

// invite prints requests to copy. The tokens are valid for an hour.
func (d *demo) invite() {
	d.print("\nEverything keeps running. Try it (tokens are valid for an hour):\n")
	for _, request := range demoRequests(time.Now())[:3] {
		request.claims["exp"] = time.Now().Add(time.Hour).Unix()
		token, err := d.issuer.Mint(request.claims)
		if err != nil {
			continue
		}
		d.print("\n# %s\ncurl -i %s%s -H 'content-type: application/json' \\\n  -d '%s' \\\n  -H 'authorization: Bearer %s'\n",
			request.title, d.front.URL, demoPath, demoBody, token)
	}
	d.print("\n# a public route, without a token\ncurl -i %s/v1/models\n\nCtrl-C stops it.\n", d.front.URL)
}
