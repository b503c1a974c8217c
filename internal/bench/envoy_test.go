package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
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
	took  [][]time.Duration // by round
}

// TestEnvoy measures what a filter adds to the latency of a request through Envoy at a fixed rate. The clients do not wait
// for each other: a slow answer does not spare the server the next request.
func TestEnvoy(t *testing.T) {
	ours := &variant{name: "extauthz", clients: 50, mapped: true, config: reject}
	ours.serve(t)
	issuer := issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("RS256"))
	empty := noop(t, &variant{name: "no-op"}, requests(t, issuer, 1))
	fronts := []*front{
		startFront(t, "no filter", "127.0.0.1:1", func(hcm map[string]any) { hcm["http_filters"] = hcm["http_filters"].([]any)[1:] }),
		startFront(t, "ext_authz, no-op server", empty.process.address, keepMutations),
		startFront(t, "ext_authz, extauthz", ours.process.address, func(map[string]any) {}),
		startFront(t, "jwt_authn alone", "127.0.0.1:1", func(hcm map[string]any) { hcm["http_filters"].([]any)[0] = jwtAuthn(t, issuer) }),
	}
	for _, f := range fronts {
		switch f.name {
		case "ext_authz, extauthz":
			f.token = ours.token
		default:
			f.token = issuer.Mint(map[string]any{"exp": time.Now().Add(time.Hour).Unix()})
		}
		f.round(t, 50, time.Second) // connections, caches
		f.took = nil
	}
	for range *rounds {
		for _, f := range fronts {
			f.round(t, *rate, max(*burst, 200*time.Millisecond))
		}
	}
	measured := added(fronts)
	t.Log("\n" + table(measured))
	save(t, func(r *figures.Report) { r.Envoy = measured })
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

// round sends requests at a fixed rate and notes how long each took from the instant at which it was due.
func (f *front) round(t *testing.T, perSecond int, length time.Duration) {
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
	f.took = append(f.took, took)
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

// added returns each front's latency, and what its filter adds to that of no filter: medians over the rounds.
func added(fronts []*front) (list []figures.Front) {
	for _, f := range fronts {
		at := func(q float64, base *front) float64 {
			var values []float64
			for n, took := range f.took {
				value := took[int(q*float64(len(took)-1))]
				if base != nil {
					value -= base.took[n][int(q*float64(len(base.took[n])-1))]
				}
				values = append(values, float64(value.Nanoseconds())/1e3)
			}
			return median(values)
		}
		list = append(list, figures.Front{Name: f.name, P50: at(0.5, nil), P99: at(0.99, nil), P50Added: at(0.5, fronts[0]), P99Added: at(0.99, fronts[0])})
	}
	return list
}

func table(list []figures.Front) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "p50 µs\tp99 µs\tp50 added\tp99 added\t  through Envoy")
	for _, f := range list {
		fmt.Fprintf(w, "%.0f\t%.0f\t%.0f\t%.0f\t  %s\n", f.P50, f.P99, f.P50Added, f.P99Added, f.Name)
	}
	_ = w.Flush()
	return text.String()
}
