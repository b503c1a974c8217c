package adversary

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/pkg/authz"
)

// atOnce is how many cases are checked at once: most wait for nothing, some for a slow issuer.
const atOnce = 16

// checked is a case that was checked.
type checked struct {
	group string
	Case
	registers bool // runs where unmapped callers are registered
	attempt   *attempt
	answer    *authv3.CheckResponse
	again     *authv3.CheckResponse // to the same check once more; nil if it was made once
	err       error
}

// TestCheck runs every case over gRPC, in both encodings on both stores, against the real server. The verdicts must be the
// cases', also when what is cached answers a second time, and the four runs must agree to the letter.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	pg := pgtest.Start(t)
	answers := make(map[string][]string) // of each case, in the order of the runs
	for _, e := range []encoding{joined, raw} {
		for name, open := range map[string]func(t *testing.T) database{
			"postgres": func(t *testing.T) database { return newPostgres(t, pg) },
			"sqlite":   newSQLite,
		} {
			t.Run(name+"/"+string(e), func(t *testing.T) {
				s := serve(t, w, open(t))
				for _, c := range s.checkAll(t, w, e) {
					t.Run(c.group+"/"+c.Name, func(t *testing.T) { c.expect(t) })
					answers[c.group+"/"+c.Name] = append(answers[c.group+"/"+c.Name], settled(t, c.answer))
				}
			})
		}
	}
	for name, list := range answers {
		if slices.ContainsFunc(list, func(answer string) bool { return answer != list[0] }) {
			t.Errorf("%s: stores or encodings disagree:\n%s", name, strings.Join(list, "\n"))
		}
	}
	if n := w.stranger.Requests() + w.stranger.DiscoveryRequests(); n != 0 {
		t.Errorf("%d documents were fetched from an issuer that is not configured", n)
	}
}

// inOrder returns all cases: those that wait for a slow issuer first, beside the others, and those that register new keys
// last, because they change what the others find.
func inOrder(t *testing.T, w *world) []*checked {
	t.Helper()
	var waiting, ready, registering []*checked
	for _, g := range groups() {
		for _, c := range g.Cases {
			a, err := newAttempt(w, c) // made anew when it is checked: some tokens are about to expire
			if err != nil {
				t.Fatalf("%s/%s: %v", g.Name, c.Name, err)
			}
			one := &checked{group: g.Name, Case: c, registers: a.profile == "register"}
			switch {
			case one.registers:
				registering = append(registering, one)
			case g.Name == keySets:
				waiting = append(waiting, one)
			default:
				ready = append(ready, one)
			}
		}
	}
	return slices.Concat(waiting, ready, registering)
}

// TestTokensNeedNoStore: with the database away, every hostile token gets the very verdict that it gets otherwise. So
// nothing is looked up before the signature holds, and nobody makes an outage out of a token.
func TestTokensNeedNoStore(t *testing.T) {
	w, pg := newWorld(t), pgtest.Start(t)
	s := serve(t, w, newPostgres(t, pg))
	pg.Stop(t)
	for _, c := range inOrder(t, w) {
		if c.Want.status != 401 || !strings.HasPrefix(c.group, "token/") {
			continue
		}
		t.Run(c.group+"/"+c.Name, func(t *testing.T) {
			c.ask(t.Context(), s, w, raw)
			c.expect(t)
		})
	}
}

// checkAll checks every case and returns them in the order of the tables.
func (s *server) checkAll(t *testing.T, w *world, e encoding) []*checked {
	t.Helper()
	all := inOrder(t, w)
	places, running := make(chan struct{}, atOnce), sync.WaitGroup{}
	for n, c := range all {
		if n > 0 && c.registers != all[n-1].registers {
			running.Wait()
		}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			c.ask(t.Context(), s, w, e)
			if c.err == nil && !c.registers {
				c.again, c.err = s.check(t.Context(), c.attempt, e)
			}
		})
	}
	running.Wait()
	return all
}

// ask makes the attempt of the case and has it checked.
func (c *checked) ask(ctx context.Context, s *server, w *world, e encoding) {
	if c.attempt, c.err = newAttempt(w, c.Case); c.err == nil {
		c.answer, c.err = s.check(ctx, c.attempt, e)
	}
}

func (s *server) check(ctx context.Context, a *attempt, e encoding) (*authv3.CheckResponse, error) {
	s.asked.Add(1)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.checks.Check(ctx, a.check(e))
}

// expect holds the answer against the case's verdict and against what every answer must be.
func (c *checked) expect(t *testing.T) {
	t.Helper()
	if c.err != nil {
		t.Fatalf("Check returned an error, which leaves the request to Envoy's failure mode: %v", c.err)
	}
	if allowed := c.answer.GetStatus().GetCode() == 0 || c.answer.GetOkResponse() != nil; allowed != c.Want.allowed() {
		t.Fatalf("allowed: %v; want %v (%s)\n%v", allowed, c.Want, c.Basis, c.answer)
	}
	if c.Want.allowed() {
		c.expectAllow(t)
	} else {
		expectDenial(t, c.answer, c.Want)
	}
	if c.again != nil && settled(t, c.again) != settled(t, c.answer) {
		t.Errorf("asked again, it is answered otherwise: %v", c.again)
	}
	for _, secret := range c.attempt.secrets() {
		if text := c.answer.GetHttpResponse(); strings.Contains(c.told(), secret) {
			t.Errorf("the answer holds %q: %v", secret, text)
		}
	}
}

// told is what of the answer reaches the client or the upstream, but for the identity that an allow hands on.
func (c *checked) told() string {
	if ok := c.answer.GetOkResponse(); ok != nil {
		var text strings.Builder
		for _, h := range ok.GetHeaders() {
			if !slices.Contains(identityHeaders(), h.GetHeader().GetKey()) {
				text.WriteString(h.String())
			}
		}
		return text.String()
	}
	return c.answer.GetDeniedResponse().String() + c.answer.GetErrorResponse().String()
}

// secrets are what of the attempt must not come back: the token's segments, its claims, and keys.
func (a *attempt) secrets() []string {
	list := []string{"sk-"}
	for _, part := range strings.FieldsFunc(a.token, func(r rune) bool { return r == '.' || r == ' ' }) {
		if len(part) >= 16 {
			list = append(list, part)
		}
	}
	for _, value := range a.claims {
		if text, ok := value.(string); ok && len(text) >= 6 {
			list = append(list, text)
		}
	}
	for alias := range a.world.secrets {
		list = append(list, a.world.hash(alias))
	}
	return list
}

// expectDenial requires a denial that Envoy cannot take for anything else, in our own words and in no others.
func expectDenial(t *testing.T, out *authv3.CheckResponse, want want) {
	t.Helper()
	denied := out.GetDeniedResponse()
	headers := make(map[string]string)
	for _, h := range denied.GetHeaders() {
		headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	if int(denied.GetStatus().GetCode()) != want.status || headers["x-extauthz-reason"] != want.what {
		t.Fatalf("got %d %s; want %v", denied.GetStatus().GetCode(), headers["x-extauthz-reason"], want)
	}
	expectWords(t, want, denied.GetBody(), func(name string) string { return headers[name] })
	if len(headers) > 4 {
		t.Errorf("more headers than ours: %v", headers)
	}
}

// expectWords requires the body and the headers that the reason has in the one list of reasons.
func expectWords(t *testing.T, want want, body string, header func(string) string) {
	t.Helper()
	all := authz.Outcomes()
	at := slices.IndexFunc(all, func(o authz.Outcome) bool { return string(o.Reason) == want.what })
	if at < 0 {
		t.Fatalf("%s is no reason of ours", want.what)
	}
	var told struct {
		Error struct {
			Message, Type, Code string
			Param               *string
			DecisionID          string `json:"decision_id"`
		}
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&told); err != nil {
		t.Fatalf("the body is not ours: %s: %v", body, err)
	}
	if e := told.Error; e.Message != all[at].Message || e.Type != all[at].Type || e.Code != want.what || e.Param != nil || len(e.DecisionID) < 20 {
		t.Errorf("the body is not that of %s: %s", want.what, body)
	}
	challenge := header("www-authenticate")
	if (want.status == 401) != strings.HasPrefix(challenge, "Bearer") {
		t.Errorf("status %d with www-authenticate %q", want.status, challenge)
	}
	if retry := header("retry-after"); (want.status == 503) != (retry != "") {
		t.Errorf("status %d with retry-after %q", want.status, retry)
	}
	if got := header("content-type"); got != "application/json" {
		t.Errorf("content-type %q", got)
	}
}

// expectAllow requires that the upstream gets the identity of the case, and nothing that the client says of itself.
func (c *checked) expectAllow(t *testing.T) {
	t.Helper()
	ok := c.answer.GetOkResponse()
	set := make(map[string]string)
	for _, h := range ok.GetHeaders() {
		name := h.GetHeader().GetKey()
		set[name] = h.GetHeader().GetValue()
		if h.GetAppend().GetValue() || h.GetAppend() == nil || h.GetAppendAction().String() != "OVERWRITE_IF_EXISTS_OR_ADD" {
			t.Errorf("%s does not overwrite", name)
		}
		if slices.Contains(ok.GetHeadersToRemove(), name) {
			t.Errorf("%s is set and removed: Envoy removes last", name)
		}
	}
	if got := set["x-extauthz-source"]; got != c.Want.what {
		t.Fatalf("source %q, want %q", got, c.Want.what)
	}
	gone := func(name string) bool { return set[name] != "" || slices.Contains(ok.GetHeadersToRemove(), name) }
	for _, name := range append(identityHeaders(), "authorization", "x-envoy-auth-failure-mode-allowed") {
		if !gone(name) || !gone(strings.ReplaceAll(name, "-", "_")) && name != "authorization" {
			t.Errorf("a client's own %s, or its twin, reaches the upstream", name)
		}
	}
	for _, h := range c.attempt.headers {
		if h[1] == spoofed && !gone(strings.ToLower(h[0])) {
			t.Errorf("the client's %s reaches the upstream", h[0])
		}
	}
	c.Want.expectKey(t, c.attempt.world, set)
}

func (w want) expectKey(t *testing.T, world *world, set map[string]string) {
	t.Helper()
	id, alias := set["x-extauthz-key-id"], set["x-extauthz-key-alias"]
	switch w.key {
	case "":
	case "-":
		if id != "" || alias != "" {
			t.Errorf("a key, %q, for a caller without one", alias)
		}
	case "auto":
		known := slices.ContainsFunc(aliases(world), func(alias string) bool { return world.hash(alias) == id })
		if !strings.HasPrefix(alias, "auto-") || known {
			t.Errorf("key %q, want one of the caller's own", alias)
		}
	default:
		if alias != w.key || id != world.hash(w.key) {
			t.Errorf("key %q, want %q", alias, w.key)
		}
	}
}

func aliases(w *world) []string {
	var list []string
	for alias := range w.secrets {
		list = append(list, alias)
	}
	return list
}

// settled is an answer without what differs from one to the next: the decision's id, and the id of a new key.
func settled(t *testing.T, out *authv3.CheckResponse) string {
	t.Helper()
	text, err := protojson.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	random := regexp.MustCompile(`\b([A-Z2-7]{26}|auto-[0-9a-f]{12}|[0-9a-f]{64})\b`)
	return random.ReplaceAllString(compact.String(), "…")
}
