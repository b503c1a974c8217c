package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// flooded is a server as `extauthz serve` wires it, with the default bounds, over SQLite, in this process.
type flooded struct {
	t       *testing.T
	issuer  *issuertest.Issuer
	server  *authz.Server
	metrics *telemetry.Metrics
	stored  *configv1.Store
}

// realClients are mapped; everybody else is not.
const realClients = 1000

// floodSize is how many unknown clients come, and how many bytes it may take to remember some: by default five times as many
// come as there is room for. The race detector makes each several times dearer; `make flood` runs without it.
func floodSize() (clients int, remembered int64) {
	if raced() {
		return 10_000, 1 << 20
	}
	return 100_000, int64(config.Defaults().GetCache().GetMaxAbsentBytes())
}

// raced reports whether the test runs with the race detector.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func newFlooded(t *testing.T) *flooded {
	t.Helper()
	_, remembered := floodSize()
	text := strings.Builder{}
	text.WriteString("teams: [{id: a}]\nkeys:\n- {alias: k, secret: sk-0123456789abcdef, team_id: a}\nmappings:\n")
	for n := range realClients {
		fmt.Fprintf(&text, "- {claim: sub, value: real-%d, key: k}\n", n)
	}
	return newInProcess(t, fmt.Sprintf("cache: {ttl: 1h, max_bytes: 2097152, max_absent_bytes: %d}\n"+
		"mapping: {claim: sub, no_match: reject, cache_ttl: 1h}\n", remembered), text.String(), parts{}, token.Options{})
}

// newInProcess wires a server with more configuration, and these parts of it.
func newInProcess(t *testing.T, more, resources string, p parts, options token.Options) *flooded {
	t.Helper()
	f := &flooded{t: t, metrics: telemetry.NewMetrics("test"),
		issuer: issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("ES256"))}
	c, err := config.Parse("extauthz.yaml", []byte(fmt.Sprintf(`
server: {check_timeout: 10s}
store: {url: "sqlite:%s", timeout: 9s}
issuers: [{issuer: %s, audiences: [llm-gateway], claims: {user_id: sub, team_id: team}}]
%s`, filepath.Join(t.TempDir(), "extauthz.db"), f.issuer.URL(), more)), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p.rows, err = openRows(t.Context(), c, f.metrics, slog.New(slog.DiscardHandler), func(s telemetry.Store) (mapping.Store, teams.Store) { return s, s })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.rows.close)
	f.stored = c.GetStore()
	f.apply(resources) // before anybody watches: it would be seen as a change some time later
	watching, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); p.rows.store.Watch(watching, p.rows.changes) }()
	t.Cleanup(func() { stop(); <-ended })
	if p.verifier, err = token.NewVerifier(issuersOf(c), options); err != nil {
		t.Fatal(err)
	}
	rules, err := decisionsOf(c, p)
	if err != nil {
		t.Fatal(err)
	}
	rules.Observe = telemetry.Observer(f.metrics, &telemetry.DecisionLog{Logger: slog.New(slog.DiscardHandler)})
	if f.server, err = authz.NewServer(rules); err != nil {
		t.Fatal(err)
	}
	return f
}

// apply applies resources as another process does.
func (f *flooded) apply(resources string) {
	f.t.Helper()
	set, _, err := resource.Parse("resources.yaml", []byte(resources))
	if err != nil {
		f.t.Fatal(err)
	}
	other, err := openStore(f.t.Context(), f.stored)
	if err != nil {
		f.t.Fatal(err)
	}
	defer other.Close()
	if err := other.Apply(f.t.Context(), set); err != nil {
		f.t.Fatal(err)
	}
}

// expect sends the request of a client and requires the reason of a denial, "" for none. It may be called from any
// goroutine.
func (f *flooded) expect(client, reason string, options ...localissuer.MintOption) {
	if got := f.ask(client, options...); got != reason {
		f.t.Errorf("%s: %q, want %q", client, got, reason)
	}
}

func (f *flooded) ask(client string, options ...localissuer.MintOption) (reason string) {
	bearer, err := f.issuer.Issuer.Mint(map[string]any{"sub": client, "team": "a"}, options...)
	if err != nil {
		return err.Error()
	}
	return f.send(bearer)
}

func (f *flooded) send(bearer string) (reason string) {
	body := `{"model":"gpt-4o"}`
	out, err := f.server.Check(context.Background(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{
			Method: "POST", Path: "/v1/chat/completions", Host: "api", RawBody: []byte(body), Size: int64(len(body)),
			Headers: map[string]string{"authorization": "Bearer " + bearer, "x-envoy-auth-partial-body": "false"},
		},
	}}})
	if err != nil {
		return err.Error()
	}
	return out.GetStatus().GetMessage()
}

// storeCalls is how often the store was asked for a mapping or a key that is there.
func (f *flooded) storeCalls() (calls uint64) {
	f.t.Helper()
	families, err := f.metrics.Registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "extauthz_store_duration_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			operation, result := metric.GetLabel()[0].GetValue(), metric.GetLabel()[1].GetValue() // sorted by name
			if result == "ok" && (operation == "mapping" || operation == "key") {
				calls += metric.GetHistogram().GetSampleCount()
			}
		}
	}
	return calls
}

// each runs do for every number below n, on as many goroutines as a busy Envoy has requests at once.
func each(n int, do func(int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	group.Wait()
}

// TestFloodOfUnknownClients: 100,000 clients whom nobody knows, each once, take neither the cache from those who are known
// nor more memory than their own bound.
func TestFloodOfUnknownClients(t *testing.T) {
	const realEvery = 4
	unknown, remembered := floodSize()
	f := newFlooded(t)
	each(realClients, func(n int) { f.expect(fmt.Sprint("real-", n), "") })
	began, memory, warm := time.Now(), cachetest.LiveHeap(), f.storeCalls()
	if warm < realClients {
		t.Fatalf("only %d calls of the store were counted", warm)
	}
	var asked atomic.Int64
	each(unknown, func(n int) {
		f.expect(fmt.Sprint("unknown-", n), "no_mapping")
		if n%realEvery == 0 {
			asked.Add(1)
			f.expect(fmt.Sprint("real-", n/realEvery%realClients), "")
		}
	})
	missed := f.storeCalls() - warm
	ratio := 1 - float64(missed)/float64(2*asked.Load()) // each asks for a mapping and a key
	grown := cachetest.LiveHeap() - memory
	t.Logf("%d unknown and %d real requests in %v: hit ratio of the real ones %.4f, heap grown by %d KiB",
		unknown, asked.Load(), time.Since(began), ratio, grown>>10)
	if ratio <= 0.99 {
		t.Errorf("hit ratio %.4f of the real clients", ratio)
	}
	const rest = 4 << 20 // of connections and pools that a busy process keeps
	if bound := remembered + remembered/4 + rest; grown > bound {
		t.Errorf("the heap grew by %d bytes; what is remembered in %d bytes may take %d", grown, remembered, bound)
	}
}

// TestFloodOfUnknownKeys: tokens with made-up kids cost the issuer one fetch in ten seconds, and nobody else anything.
func TestFloodOfUnknownKeys(t *testing.T) {
	const madeUp = 20_000
	f := newFlooded(t)
	f.expect("real-0", "")
	began := time.Now()
	each(madeUp, func(n int) {
		f.expect("real-0", "token_invalid", localissuer.Kid(fmt.Sprint("made-up-", n)))
		if n%100 == 0 {
			f.expect("real-0", "")
		}
	})
	took := time.Since(began)
	most := 1 + 1 + int(took/(10*time.Second)) // the first one, that of the first made-up kid, and one each ten seconds
	if got := f.issuer.Requests(); got > most {
		t.Errorf("%d fetches of the keys in %v, want at most %d", got, took, most)
	}
	t.Logf("%d made-up kids in %v: %d fetches", madeUp, took, f.issuer.Requests())
}
