package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/extauthz/extauthz/internal/bench/page/figures"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// front is an Envoy that answers by itself what its filter lets pass.
type front struct {
	name  string
	url   string
	token string
}

// The fronts' names.
const (
	noFilter  = "no filter"
	noopFront = "ext_authz, no-op server"
)

// rates are requests a second: at the first a CPU is mostly asleep when one comes, at the second mostly awake.
var rates = []int{200, 1000}

// turnsOfRound is how often each front is asked in one round, at each rate.
const turnsOfRound = 3

// latencies are a front's in one round: p50 and p99, and what its filter adds to them.
type latencies struct{ p50, p99, p50Added, p99Added float64 }

// TestEnvoy measures what a filter adds to the latency of a request through Envoy at a fixed rate. The clients do not wait
// for each other: a slow answer does not spare the server the next request. Each round starts every process anew: where the
// kernel puts one makes more of a difference than what it does.
func TestEnvoy(t *testing.T) {
	seen := make(map[int]map[string][]latencies)
	var names []string
	for n := range *rounds {
		t.Run(fmt.Sprintf("round %d", n+1), func(t *testing.T) {
			fronts := startFronts(t)
			names = nil
			for _, f := range fronts {
				names = append(names, f.name)
			}
			for _, perSecond := range rates {
				if seen[perSecond] == nil {
					seen[perSecond] = make(map[string][]latencies)
				}
				for name, l := range round(t, fronts, perSecond) {
					seen[perSecond][name] = append(seen[perSecond][name], l)
				}
			}
		})
	}
	var measured []figures.Front
	for _, perSecond := range rates {
		for _, name := range names {
			measured = append(measured, summarizeFront(perSecond, name, seen[perSecond][name], seen[perSecond][noopFront]))
		}
	}
	t.Log("\n" + table(measured))
	save(t, func(r *figures.Report) { r.Envoy = measured })
}

// startFronts starts an Envoy for each filter, and the servers behind them. All are asked the same.
func startFronts(t *testing.T) []*front {
	t.Helper()
	ours := &variant{name: "extauthz", clients: 1, mapped: true, config: reject}
	ours.serve(t)
	issuer := issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("RS256"))
	asked := requests(t, issuer, 1)
	empty, same := noop(t, &variant{name: "no-op"}, asked), noop(t, &variant{name: "no-op, same answer", answer: answerOf(t, ours)}, asked)
	asIs := func(map[string]any) {}
	fronts := []*front{
		startFront(t, noFilter, "127.0.0.1:1", func(hcm map[string]any) { hcm["http_filters"] = hcm["http_filters"].([]any)[1:] }),
		startFront(t, noopFront, empty.process.address, keepMutations),
		startFront(t, "ext_authz, no-op server with extauthz's answer", same.process.address, asIs),
		startFront(t, "ext_authz, extauthz", ours.process.address, asIs),
		startFront(t, "jwt_authn alone", "127.0.0.1:1", func(hcm map[string]any) { hcm["http_filters"].([]any)[0] = jwtAuthn(t, issuer) }),
	}
	for _, f := range fronts {
		f.token = mint(issuer, 0)
		if f.name == "ext_authz, extauthz" {
			f.token = ours.token
		}
		f.turn(t, 100, 500*time.Millisecond) // connections, caches
	}
	return fronts
}

// answerOf writes a server's answer into a file.
func answerOf(t *testing.T, v *variant) string {
	t.Helper()
	answer, err := ask(t.Context(), v.load.conns[0], v.load.requests[0])
	if err == nil {
		err = v.load.judge(answer)
	}
	file := filepath.Join(t.TempDir(), "answer")
	if err == nil {
		err = os.WriteFile(file, answer, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// round returns the medians over its turns. What a filter adds is taken turn by turn.
func round(t *testing.T, fronts []*front, perSecond int) map[string]latencies {
	t.Helper()
	turns := make(map[string][]latencies)
	for range turnsOfRound {
		for _, f := range fronts {
			took := f.turn(t, perSecond, max(*burst, 200*time.Millisecond))
			at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1e3 }
			l := latencies{p50: at(0.5), p99: at(0.99)}
			if f.name != noFilter {
				without := turns[noFilter][len(turns[noFilter])-1]
				l.p50Added, l.p99Added = l.p50-without.p50, l.p99-without.p99
			}
			turns[f.name] = append(turns[f.name], l)
		}
	}
	over := make(map[string]latencies)
	for name, list := range turns {
		over[name] = medians(list)
	}
	return over
}

func medians(list []latencies) latencies {
	of := func(field func(latencies) float64) float64 { return median(valuesOf(list, field)) }
	return latencies{
		of(func(l latencies) float64 { return l.p50 }), of(func(l latencies) float64 { return l.p99 }),
		of(func(l latencies) float64 { return l.p50Added }), of(func(l latencies) float64 { return l.p99Added }),
	}
}

func summarizeFront(perSecond int, name string, rounds, noop []latencies) figures.Front {
	m := medians(rounds)
	f := figures.Front{Rate: perSecond, Name: name, P50: m.p50, P99: m.p99, P50Added: m.p50Added, P99Added: m.p99Added}
	if name == noFilter || len(rounds) != len(noop) {
		return f
	}
	beyond := make([]float64, len(rounds))
	for n := range rounds {
		beyond[n] = rounds[n].p50Added - noop[n].p50Added
	}
	mean, squares := meanOf(beyond)
	count := float64(len(rounds))
	f.Beyond, f.BeyondError = mean, math.Sqrt(squares/max(count-1, 1)/count)
	return f
}

func keepMutations(hcm map[string]any) {
	typed := hcm["http_filters"].([]any)[0].(map[string]any)["typed_config"].(map[string]any)
	delete(typed, "decoder_header_mutation_rules") // the no-op server's headers have other names
}

func jwtAuthn(t *testing.T, issuer *issuertest.Issuer) map[string]any {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, issuer.JWKSURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"name": "envoy.filters.http.jwt_authn", "typed_config": map[string]any{
		"@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
		"providers": map[string]any{"idp": map[string]any{
			"issuer": issuer.URL(), "audiences": []any{"llm-gateway"}, "local_jwks": map[string]any{"inline_string": envoytest.Do(t, request).Body},
		}},
		"rules": []any{map[string]any{"match": map[string]any{"prefix": "/"}, "requires": map[string]any{"provider_name": "idp"}}},
	}}
}

func startFront(t *testing.T, name, authz string, edit func(hcm map[string]any)) *front {
	t.Helper()
	envoy := envoytest.Start(t, envoytest.Options{Authz: authz, Upstream: "127.0.0.1:1", Edit: func(tree map[string]any) {
		hcm := envoytest.HCM(tree)
		delete(hcm, "access_log")
		edit(hcm)
		host := hcm["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any)
		host["routes"] = []any{map[string]any{"match": map[string]any{"prefix": "/"}, "direct_response": map[string]any{"status": 200}}}
	}})
	return &front{name: name, url: envoy.URL}
}

// turn sends requests at a fixed rate and returns how long each took from the instant at which it was due, in order.
func (f *front) turn(t *testing.T, perSecond int, length time.Duration) []time.Duration {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	total := int(length.Seconds() * float64(perSecond))
	took := make([]time.Duration, total)
	failed := make(chan error, total)
	var group sync.WaitGroup
	begin := time.Now()
	for n := range total {
		due := begin.Add(time.Duration(n) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(due))
		group.Go(func() {
			if err := f.ask(t.Context(), client); err != nil {
				failed <- err
			}
			took[n] = time.Since(due)
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		t.Fatalf("%s: %v", f.name, err)
	default:
	}
	slices.Sort(took)
	return took
}

func (f *front) ask(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/v1/chat/completions", strings.NewReader(chatBody))
	if err != nil {
		return err
	}
	request.Header.Set("authorization", "Bearer "+f.token)
	request.Header.Set("content-type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return err
}

const chatBody = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"What is the weather like?"}]}`

func table(list []figures.Front) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "per s\tp50 µs\tp99 µs\tp50 added\tp99 added\tbeyond no-op\tse\t  through Envoy")
	for _, f := range list {
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t  %s\n", f.Rate, f.P50, f.P99, f.P50Added, f.P99Added, f.Beyond, f.BeyondError, f.Name)
	}
	_ = w.Flush()
	return text.String()
}
