package bench

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/extauthz/extauthz/internal/bench/page/figures"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

var (
	rounds  = flag.Int("rounds", 1, "rounds of a comparison; figures are medians over them")
	burst   = flag.Duration("burst", 100*time.Millisecond, "length of one server's turn")
	workers = flag.Int("workers", 16, "checks in flight")
	only    = flag.String("only", "", "measure only variants whose name contains this")
	phase   = flag.Duration("phase", time.Second, "length of a test's phases without overload; those with it are twice as long")
	peer    = flag.String("peer", "", "a peer's ext_authz server to measure too: PID,ADDRESS; it must allow")
)

// maxWrites is how many writes a warm check may take: answers that are ready together are to be written together. It is 0.9
// if they are not.
const maxWrites = 0.6

const (
	clients  = 2000
	register = "mapping: {claim: sub, no_match: auto_register, auto_register: {max_keys_per_team: 0, max_per_minute: 0}}\n"
	reject   = "mapping: {claim: sub, no_match: reject, cache_ttl: 1h, absent_ttl: 1h}\ncache: {ttl: 1h}\n" // longer than the run
	uncached = "mapping: {claim: sub, no_match: reject, cache_ttl: 1ms, absent_ttl: 1ms}\ncache: {ttl: 1ms}\n"
)

// oneTime is how many clients a burst of callers who come once needs: more than can be served.
func oneTime() int { return int(float64(*rounds)*burst.Seconds()*8000) + 500 }

func variants(t *testing.T) []*variant {
	server := pgtest.Start(t)
	gogc := []string{"GOGC=400"}
	all := []*variant{
		{name: "warm, SQLite", clients: clients, mapped: true, config: reject},
		{name: "warm, PostgreSQL", store: server.NewDatabase(t), clients: clients, mapped: true, config: reject},
		{name: "warm, SQLite, Unix socket", clients: clients, mapped: true, config: reject, socket: true},
		{name: "warm, SQLite, GOGC=400", clients: clients, mapped: true, config: reject, environment: gogc},
		{name: "absent, PostgreSQL", store: server.NewDatabase(t), clients: clients, config: reject, denied: true},
		{name: "cold, SQLite", clients: clients, mapped: true, config: uncached},
		{name: "cold, PostgreSQL", store: server.NewDatabase(t), clients: clients, mapped: true, config: uncached},
		{name: "register, SQLite", clients: oneTime(), once: true, config: register},
		{name: "register, PostgreSQL", store: server.NewDatabase(t), clients: oneTime(), once: true, config: register},
	}
	return slices.DeleteFunc(all, func(v *variant) bool { return !strings.Contains(v.name, *only) })
}

// noop starts the server that everything is compared with. It allows whatever it is asked.
func noop(t *testing.T, v *variant, requests [][]byte) *variant {
	t.Helper()
	address := "127.0.0.1:0"
	if v.socket {
		address = "unix://" + filepath.Join(t.TempDir(), "s")
	}
	args := []string{address}
	if v.answer != "" {
		args = append(args, v.answer)
	}
	var err error
	if v.process, err = start(t.Context(), v.name, v.environment, noopBinary, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.process.stop)
	v.connect(t, requests)
	return v
}

// TestCompare measures every variant against the no-op server.
func TestCompare(t *testing.T) {
	issuer := issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("RS256"))
	asked := requests(t, issuer, 200)
	base := noop(t, &variant{name: "no-op"}, asked)
	list := []*variant{
		noop(t, &variant{name: "no-op, GOGC=400", environment: []string{"GOGC=400"}}, asked),
		noop(t, &variant{name: "no-op, Unix socket", socket: true}, asked),
	}
	if *peer != "" {
		list = append(list, peerVariant(t, asked))
	}
	for _, v := range variants(t) {
		v.serve(t)
		list = append(list, v)
		t.Logf("%s is up: %d clients", v.name, v.clients)
	}
	for _, v := range append([]*variant{base}, list...) {
		if v.once {
			continue
		}
		if err := v.load.fill(t.Context()); err != nil { // the caches, and the heap to its size
			t.Fatalf("%s: %v", v.name, err)
		}
	}
	measured := measure(t, base, list)
	var text strings.Builder
	write(&text, measured)
	t.Log("\n" + text.String())
	for n, s := range measured[1:] { // the first is the base
		if strings.HasPrefix(s.Name, "warm") && s.Writes > maxWrites && (*rounds > 1 || !writesTogether(t, list[n])) {
			t.Errorf("%s: %.2f writes for a check, with %d in flight; more than %.2f", s.Name, s.Writes, *workers, maxWrites)
		}
	}
	save(t, func(r *figures.Report) { r.Servers = measured })
}

// writesTogether looks for a turn with few writes, where one turn is all that was measured: beside other tests answers are
// seldom ready together.
func writesTogether(t *testing.T, v *variant) bool {
	t.Helper()
	for range 20 {
		if r := turn(t, v, *burst); float64(r.writes)/float64(r.checks) <= maxWrites {
			return true
		}
	}
	return false
}

func peerVariant(t *testing.T, requests [][]byte) *variant {
	t.Helper()
	v := &variant{name: "peer", process: &process{name: "peer"}}
	pid, address, _ := strings.Cut(*peer, ",")
	if _, err := fmt.Sscan(pid, &v.process.pid); err != nil || address == "" {
		t.Fatalf("-peer %q: must be PID,ADDRESS", *peer)
	}
	v.process.address = address
	v.connect(t, requests)
	return v
}

func turn(t *testing.T, v *variant, length time.Duration) result {
	t.Helper()
	r, err := v.load.burst(t.Context(), v.process, *workers, length)
	if err != nil {
		t.Fatalf("%s: %v", v.name, err)
	}
	return r
}

// sample is one turn and its neighbours'.
type sample struct {
	result
	ratio, storeCalls float64
}

func measure(t *testing.T, base *variant, list []*variant) []figures.Server {
	samples := make(map[string][]sample)
	before := turn(t, base, *burst)
	for n := range *rounds {
		for _, v := range list {
			calls := storeCalls(t, v)
			r := turn(t, v, *burst)
			calls = storeCalls(t, v) - calls
			after := turn(t, base, *burst)
			neighbours := (perCheck(before) + perCheck(after)) / 2
			samples[v.name] = append(samples[v.name], sample{r, perCheck(r) / neighbours, calls / float64(r.checks)})
			samples[base.name] = append(samples[base.name], sample{result: after, ratio: perCheck(after) / perCheck(before)})
			before = after
		}
		t.Logf("round %d of %d", n+1, *rounds)
	}
	var all []figures.Server
	for _, v := range append([]*variant{base}, list...) {
		all = append(all, summarize(v, samples[v.name]))
	}
	return all
}

func storeCalls(t *testing.T, v *variant) float64 {
	t.Helper()
	calls, err := v.process.metric(t.Context(), "extauthz_store_duration_seconds_count")
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func perCheck(r result) float64 { return float64(r.cpu.Nanoseconds()) / 1e3 / float64(r.checks) }

func summarize(v *variant, samples []sample) figures.Server {
	over := func(of func(sample) float64) float64 { return median(valuesOf(samples, of)) }
	quantile := func(q float64) float64 {
		return over(func(s sample) float64 {
			return float64(s.latencies[int(q*float64(len(s.latencies)-1))].Nanoseconds()) / 1e3
		})
	}
	_, squares := meanOf(valuesOf(samples, func(s sample) float64 { return s.ratio }))
	return figures.Server{
		Name: v.name, CPU: over(func(s sample) float64 { return perCheck(s.result) }), Ratio: over(func(s sample) float64 { return s.ratio }),
		Spread: math.Sqrt(squares / float64(len(samples))),
		Rate:   over(func(s sample) float64 { return float64(s.checks) / s.elapsed.Seconds() }),
		P50:    quantile(0.5), P99: quantile(0.99), P999: quantile(0.999),
		Allocations: over(func(s sample) float64 { return s.mallocs / float64(s.checks) }),
		Writes:      over(func(s sample) float64 { return float64(s.writes) / float64(s.checks) }),
		RSS:         float64(v.process.rss()) / (1 << 20),
		StoreCalls:  over(func(s sample) float64 { return s.storeCalls }),
	}
}

func valuesOf[T any](list []T, of func(T) float64) []float64 {
	values := make([]float64, len(list))
	for n, one := range list {
		values[n] = of(one)
	}
	return values
}

// meanOf returns the mean, and the sum of the squares of what the values are off it.
func meanOf(values []float64) (mean, squares float64) {
	for _, value := range values {
		mean += value / float64(len(values))
	}
	for _, value := range values {
		squares += (value - mean) * (value - mean)
	}
	return mean, squares
}

func median(values []float64) float64 {
	slices.SortFunc(values, cmp.Compare[float64])
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

func write(out *strings.Builder, list []figures.Server) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CPU µs\tratio\tsd\tchecks/s\tp50 µs\tp99 µs\tp99.9 µs\tallocs\twrites\tRSS MiB\tstore calls\t  variant")
	for _, f := range list {
		fmt.Fprintf(w, "%.1f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.0f\t%.2f\t  %s\n",
			f.CPU, f.Ratio, f.Spread, f.Rate, f.P50, f.P99, f.P999, f.Allocations, f.Writes, f.RSS, f.StoreCalls, f.Name)
	}
	_ = w.Flush()
}
