package bench

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// These tests ask more of a server than it can do, through the shipped Envoy. The server has one CPU at most and what it
// is asked is dear, so that it gives out before Envoy and the clients do. What is demanded leaves room for
// a machine with other work; without admission every one of the demands fails by far.

// crowd is clients who do not wait for each other: if answers are slow, there are more requests under way.
type crowd struct {
	url    string
	client *http.Client
	// token is that of the n-th request, and whether it must not be allowed.
	token func(n int) (token string, bad bool)
}

// tally is what became of a crowd's requests.
type tally struct {
	length time.Duration

	mu       sync.Mutex
	answers  map[string]int  // by status and reason
	admitted []time.Duration // what was allowed: from the instant at which it was due to its answer
	wrong    int             // bad tokens that were allowed
}

func newCrowd(t *testing.T, url string, token func(int) (string, bool)) *crowd {
	transport := &http.Transport{MaxIdleConnsPerHost: 4096}
	t.Cleanup(transport.CloseIdleConnections)
	return &crowd{url: url, client: &http.Client{Transport: transport, Timeout: patience}, token: token}
}

// ask sends the n-th request and notes its answer.
func (c *crowd) ask(ctx context.Context, n int, due time.Time, into *tally) {
	token, bad := c.token(n)
	answer := c.answer(ctx, token)
	took := time.Since(due)
	into.mu.Lock()
	defer into.mu.Unlock()
	into.answers[answer]++
	switch {
	case answer == "200" && bad:
		into.wrong++
	case answer == "200":
		into.admitted = append(into.admitted, took)
	}
}

// expect requires that a token is allowed, which the server then knows.
func (c *crowd) expect(t *testing.T, token string) {
	t.Helper()
	if answer := c.answer(t.Context(), token); answer != "200" {
		t.Fatal(answer)
	}
}

// answer is a status and the reason of a denial.
func (c *crowd) answer(ctx context.Context, token string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/chat/completions", strings.NewReader(chatBody))
	if err != nil {
		return err.Error()
	}
	request.Header.Set("authorization", "Bearer "+token)
	request.Header.Set("content-type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode == http.StatusServiceUnavailable && (response.Header.Get("retry-after") == "") == (response.Header.Get("x-extauthz-reason") != "") {
		return "503 with a reason or a retry-after, but not both"
	}
	return strings.TrimSpace(fmt.Sprint(response.StatusCode, " ", response.Header.Get("x-extauthz-reason")))
}

// come sends requests at a fixed rate and returns when all are answered.
func (c *crowd) come(ctx context.Context, perSecond float64, length time.Duration) *tally {
	r := &tally{answers: make(map[string]int), length: length}
	var group sync.WaitGroup
	begin := time.Now()
	for n := range int(length.Seconds() * perSecond) {
		due := begin.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))
		time.Sleep(time.Until(due))
		group.Go(func() { c.ask(ctx, n, due, r) })
	}
	group.Wait()
	slices.Sort(r.admitted)
	return r
}

// saturate keeps a few requests under way, enough for the server to be busy without a queue, and returns the rate of
// these answers.
func (c *crowd) saturate(ctx context.Context, answer string, length time.Duration) float64 {
	const underWay = 8
	r := &tally{answers: make(map[string]int), length: length}
	var next atomic.Int64
	var group sync.WaitGroup
	until := time.Now().Add(length)
	for range underWay {
		group.Go(func() {
			for time.Now().Before(until) {
				c.ask(ctx, int(next.Add(1)), time.Now(), r)
			}
		})
	}
	group.Wait()
	return float64(r.answers[answer]) / length.Seconds()
}

func (r *tally) goodput() float64 { return float64(len(r.admitted)) / r.length.Seconds() }

// quantile of the admitted requests' times; 0 if none was admitted.
func (r *tally) quantile(q float64) time.Duration {
	if len(r.admitted) == 0 {
		return 0
	}
	return r.admitted[int(q*float64(len(r.admitted)-1))]
}

func (r *tally) String() string {
	return fmt.Sprintf("%.0f allowed a second, p50 %s, p99 %s; %v", r.goodput(),
		r.quantile(.5).Round(time.Millisecond), r.quantile(.99).Round(time.Millisecond), r.answers)
}

// expectInBand requires that nobody was wrongly allowed, and that who was turned away was told so by the server: Envoy's own
// 503, for want of an answer in time, is one that failure_mode_allow would make an ALLOW.
func (r *tally) expectInBand(t *testing.T, others ...string) {
	t.Helper()
	all, told := 0, r.answers["200"]+r.answers["503 overloaded"]
	for _, n := range r.answers {
		all += n
	}
	for _, answer := range others {
		told += r.answers[answer]
	}
	if r.wrong > 0 || told < all*9/10 || r.answers["503 overloaded"] == 0 {
		t.Errorf("%d bad tokens allowed; %d of %d answers in band: %v", r.wrong, told, all, r.answers)
	}
}

// forge returns the token of somebody else, whom nobody has seen, with a signature that costs a whole verification.
func forge(token string, n int) string {
	parts := strings.Split(token, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err.Error()
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), `"sub":"`, fmt.Sprintf(`"sub":"%d-`, n), 1)))
	return strings.Join(parts, ".")
}

// expectServing looks at health and metrics until it is told to stop: overload is no reason to be taken out, because the
// other replicas would only get more.
func expectServing(t *testing.T, v *variant) (stop func()) {
	conn, err := grpc.NewClient(v.process.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	looks := 0
	group.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for ; ; looks++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := serving(ctx, v, conn); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
		if looks == 0 {
			t.Error("health was never looked at")
		}
	}
}

// serving fails if a probe as Envoy's and the kubelet's is not answered well within a second, which is their timeout.
func serving(ctx context.Context, v *variant, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if h, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil || h.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("gRPC health: %v, %w", h.GetStatus(), err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.process.telemetry+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", response.Status)
	}
	return nil
}

func overloadable(t *testing.T, v *variant) *front {
	t.Helper()
	v.clients, v.mapped, v.config, v.usualTimeouts, v.environment = 1, true, reject, true, []string{"GOMAXPROCS=1"}
	v.serve(t)
	return startFront(t, v.name, v.process.address, func(map[string]any) {})
}

// shed requires that the server counts what it turned away, and where.
func (v *variant) shed(t *testing.T, where string) {
	t.Helper()
	n, err := v.process.metric(t.Context(), `extauthz_shed_total{at="`+where+`"}`)
	if err != nil || n == 0 {
		t.Errorf("extauthz_shed_total counts %v at %s: %v", n, where, err)
	}
}

// dear is a policy whose rule takes some milliseconds.
func dear() string {
	numbers := "[" + strings.Repeat("1,", 49) + "1]"
	return fmt.Sprintf("policy: {rules: [{name: dear, expression: '%s.all(a, %s.all(b, a + b == 2))'}]}\n", numbers, numbers)
}

// TestOverload: three times as many requests come as the server can decide. It goes on deciding nearly as many as
// without the others, and soon.
func TestOverload(t *testing.T) {
	v := &variant{name: "dear decisions", policy: dear()}
	f := overloadable(t, v)
	honest := newCrowd(t, f.url, func(int) (string, bool) { return v.token, false })
	all := newCrowd(t, f.url, func(n int) (string, bool) {
		if n%10 == 0 {
			return forge(v.token, n), true
		}
		return v.token, false
	})
	honest.expect(t, v.token)
	before := honest.saturate(t.Context(), "200", *phase)
	stop := expectServing(t, v)
	r := all.come(t.Context(), 3*before, 2**phase)
	stop()
	after := honest.saturate(t.Context(), "200", *phase)
	capacity := min(before, after) // the machine may have other work in either phase
	t.Logf("capacity %.0f and %.0f requests a second; of three times as many %s: %.0f %%", before, after, r, 100*r.goodput()/capacity)
	if r.goodput() < capacity/2 || r.quantile(.99) > 800*time.Millisecond {
		t.Errorf("%.0f requests a second are allowed under overload, with p99 %s; want at least half of %.0f, and 800 ms at most", r.goodput(), r.quantile(.99), capacity)
	}
	r.expectInBand(t, "401 token_invalid")
	v.shed(t, "arrival")
}

// TestFloodOfStrangers: three times as many tokens that nobody has seen come as can be verified, some of them valid. Callers
// whose tokens are known go on.
func TestFloodOfStrangers(t *testing.T) {
	v := &variant{name: "dear verification", algorithm: "ES512"}
	f := overloadable(t, v)
	var valid []string // of clients whom nothing maps: the store is asked, and they are denied
	for n := range 100 {
		valid = append(valid, mint(v.issuer, n+1))
	}
	var stranger atomic.Int64
	strangers := newCrowd(t, f.url, func(int) (string, bool) {
		n := int(stranger.Add(1))
		if n%4 == 0 && n/4 < len(valid) {
			return valid[n/4], true
		}
		return forge(v.token, n), true
	})
	known := newCrowd(t, f.url, func(int) (string, bool) { return v.token, false })
	known.expect(t, v.token)
	const rate = 100
	capacity := strangers.saturate(t.Context(), "401 token_invalid", *phase)
	stop := expectServing(t, v)
	var flood *tally
	var group sync.WaitGroup
	group.Go(func() { flood = strangers.come(t.Context(), 3*capacity, 2**phase) })
	r := known.come(t.Context(), rate, 2**phase)
	group.Wait()
	stop()
	t.Logf("beside three times the %.0f strangers that can be verified a second, of %d known callers %s", capacity, rate, r)
	t.Logf("the strangers: %s", flood)
	if r.goodput() < rate/2 {
		t.Errorf("%.0f of %d known callers a second are allowed, want at least half of them", r.goodput(), rate)
	}
	flood.expectInBand(t, "401 token_invalid", "403 no_mapping")
	v.shed(t, "verification")
}
