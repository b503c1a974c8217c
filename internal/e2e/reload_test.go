package e2e

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	reloadedLine    = `"configuration reloaded"`
	notReloadedLine = `"configuration not reloaded, the one before stays in force"`
)

// rewrite puts another text into the place of one in the configuration file, whole, as Kubernetes does.
func (s *site) rewrite(from, to string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		s.t.Fatalf("the configuration has no %q:\n%s", from, text)
	}
	next := s.config + ".next"
	if err := os.WriteFile(next, []byte(strings.ReplaceAll(string(text), from, to)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(next, s.config); err != nil {
		s.t.Fatal(err)
	}
}

// reload rewrites the configuration file, tells the first server, and waits for one more line of the log.
func (s *site) reload(from, to, says string) {
	s.t.Helper()
	v := s.servers[0]
	before := strings.Count(v.logged(), says)
	s.rewrite(from, to)
	if err := v.command.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	v.awaitLines(says, before+1)
}

func (v *server) awaitLines(says string, count int) {
	v.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(v.logged(), says) < count {
		select {
		case <-deadline:
			v.t.Fatalf("the log never said %q %d times:\n%s", says, count, v.logged())
		case <-tick.C:
		}
	}
}

func TestReload(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		const open1, closed = `expression: "true"`, `expression: "identity.user_id != 'alice'"`
		s := newSite(t, open(t), plan{config: reject + "policy: {rules: [{name: r, " + open1 + "}]}\n", resources: outageResources})
		v := s.servers[0]
		s.outcome(s.as(client1()), 200, "mapping")

		s.issuer.Down() // the keys that are there go over into the new configuration
		s.reload(open1, closed, reloadedLine)
		s.expect(s.as(client1()), 403, "rule_failed")

		for name, broken := range map[string]struct{ from, to, says string }{
			"a mistake":               {closed, `expression: "identity.user_id = 1"`, "extauthz.yaml:"},
			"an unknown key":          {"policy:", "polizy:", "polizy"},
			"an address":              {"server: {address: '127.0.0.1:0'", "server: {address: '127.0.0.1:9001'", "server: cannot change while the server runs"},
			"the store":               {"timeout: 2s", "timeout: 1s", "store: cannot change while the server runs"},
			"a contradictory setting": {"no_match: reject", "no_match: reject, cache_ttl: 0s", "cache_ttl"},
		} {
			s.reload(broken.from, broken.to, notReloadedLine)
			if !strings.Contains(v.logged(), broken.says) {
				t.Errorf("%s: the log does not say %q:\n%s", name, broken.says, v.logged())
			}
			s.expect(s.as(client1()), 403, "rule_failed")
			s.reload(broken.to, broken.from, reloadedLine)
		}

		s.rewrite(closed, open1) // nobody tells the server
		v.awaitLines(reloadedLine, 7)
		s.outcome(s.as(client1()), 200, "mapping")
		metrics := v.get("/metrics").Body
		for _, want := range []string{`result="ok"} 7`, `result="error"} 5`} {
			if !strings.Contains(metrics, `extauthz_file_reloads_total{files="configuration",`+want) {
				t.Errorf("no %s in the metrics", want)
			}
		}
	})
}

// A reload neither fails a request nor lets one pass that both configurations deny.
func TestReloadUnderLoad(t *testing.T) {
	const first, second = `name: first`, `name: second`
	s := newSite(t, noStore(), plan{config: fallback + "policy: {rules: [{" + first + ", expression: \"identity.user_id == 'alice'\"}]}\n"})
	allowed, denied := s.issuer.Mint(client1()), s.issuer.Mint(with(client1(), "sub", "mallory"))
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		sent := 0
		defer func() { ended <- sent }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			for token, want := range map[string]int{allowed: http.StatusOK, denied: http.StatusForbidden} {
				a, err := s.servers[0].send(t.Context(), call{token: token})
				if err != nil || a.status != want {
					t.Errorf("request %d: %v %v, want %d", sent, a, err, want)
					return
				}
				sent++
			}
		}
	}()
	for range 10 {
		s.reload(first, second, reloadedLine)
		s.reload(second, first, reloadedLine)
	}
	close(stop)
	if sent := <-ended; sent < 20 {
		t.Errorf("only %d requests were sent", sent)
	}
}
