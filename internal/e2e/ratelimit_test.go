package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// rateLimit is a running rate limit service over a Redis of its own.
type rateLimit struct{ redis, grpc string } // their ports

// startRateLimit starts envoyproxy/ratelimit with the configuration that ships.
func startRateLimit(t *testing.T) rateLimit {
	t.Helper()
	rules, err := os.ReadFile(filepath.Join(envoytest.ModuleRoot(t), "deploy/envoy/ratelimit.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config", "ratelimit.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := installed(t, "bin/ratelimit", "deps")
	r := rateLimit{redis: startRedis(t)}
	ports := neighbour{
		name: "ratelimit", ports: 3, patience: patience,
		command: func(ports []string) *exec.Cmd {
			command := exec.Command(binary)
			command.Env = append(os.Environ(), "RUNTIME_ROOT="+folder, "RUNTIME_SUBDIRECTORY=", "RUNTIME_WATCH_ROOT=false",
				"USE_STATSD=false", "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED=true",
				"BACKEND_TYPE=redis", "REDIS_SOCKET_TYPE=tcp", "REDIS_URL=127.0.0.1:"+r.redis,
				"HOST=127.0.0.1", "PORT="+ports[0], "GRPC_HOST=127.0.0.1", "GRPC_PORT="+ports[1], "DEBUG_HOST=127.0.0.1", "DEBUG_PORT="+ports[2])
			return command
		},
		ready: func(ports []string) bool { return answersOK("http://127.0.0.1:" + ports[0] + "/healthcheck") },
	}.start(t)
	r.grpc = ports[1]
	return r
}

// startRedis starts a Redis that keeps nothing, and returns its port.
func startRedis(t *testing.T) string {
	t.Helper()
	binary := onPath(t, "redis-server", "deps")
	return neighbour{
		name: "redis", ports: 1, patience: patience,
		command: func(ports []string) *exec.Cmd {
			return exec.Command(binary, "--bind", "127.0.0.1", "--port", ports[0], "--save", "", "--appendonly", "no")
		},
		ready: func(ports []string) bool { return askRedis(ports[0], "PING") == "+PONG" },
	}.start(t)[0]
}

// askRedis sends one command and returns the first line of the answer, "" if there is none.
func askRedis(port, command string) string {
	connection, err := net.DialTimeout("tcp", "127.0.0.1:"+port, patience)
	if err != nil {
		return ""
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection
	fmt.Fprintf(connection, "%s\r\n", command)
	line, _ := bufio.NewReader(connection).ReadString('\n')
	return strings.TrimSpace(line)
}

// connect is the plan's change to Envoy: the address of the service.
func (r rateLimit) connect(tree map[string]any) {
	endpoints := envoytest.Cluster(tree, "ratelimit")["load_assignment"].(map[string]any)["endpoints"].([]any)
	endpoint := endpoints[0].(map[string]any)["lb_endpoints"].([]any)[0].(map[string]any)["endpoint"].(map[string]any)
	endpoint["address"].(map[string]any)["socket_address"].(map[string]any)["port_value"] = r.grpc
}

// inOneMinute sends requests that fall into one minute of the clock, the window in which the service counts: if a
// new one began meanwhile, it starts again, with every counter at zero.
func (r rateLimit) inOneMinute(t *testing.T, send func() []answer) []answer {
	t.Helper()
	for range 3 {
		if said := askRedis(r.redis, "FLUSHALL"); said != "+OK" {
			t.Fatalf("redis: %q", said)
		}
		minute := time.Now().Truncate(time.Minute)
		got := send()
		if time.Now().Truncate(time.Minute).Equal(minute) {
			return got
		}
	}
	t.Fatal("the requests take longer than a minute")
	return nil
}

const limited = `
teams: [{id: a}, {id: b, rpm_limit: 3}]
keys:
- {alias: five, secret: sk-five-0123456789, team_id: a, rpm_limit: 5}
- {alias: other, secret: sk-other-0123456789, team_id: a, rpm_limit: 5}
- {alias: zero, secret: sk-zero-0123456789, team_id: a, rpm_limit: 0}
- {alias: none, secret: sk-none-0123456789, team_id: a}
- {alias: b1, secret: sk-b1-0123456789, team_id: b}
- {alias: b2, secret: sk-b2-0123456789, team_id: b}
mappings:
- {claim: client_id, value: five, key: five}
- {claim: client_id, value: other, key: other}
- {claim: client_id, value: zero, key: zero}
- {claim: client_id, value: none, key: none}
- {claim: client_id, value: b1, key: b1}
- {claim: client_id, value: b2, key: b2}
`

// Envoy refuses what is over the limits that extauthz hands to it, and the service counts.
func TestRateLimits(t *testing.T) {
	service := startRateLimit(t)
	config := fallback + "policy: {public_routes: [GET /v1/models]}\n"
	s := newSite(t, sqlite(t), plan{config: config, resources: limited, envoyFile: envoytest.RateLimit, envoy: service.connect})
	for name, c := range map[string]struct {
		clients []string // in turn
		team    string
		passes  int
	}{
		"a key's limit":                        {[]string{"five"}, "a", 5},
		"a key's limit of zero":                {[]string{"zero"}, "a", 0},
		"a key without one: the default":       {[]string{"none"}, "a", 60},
		"a team's limit, over all its callers": {[]string{"b1", "b2", "no key"}, "b", 3},
	} {
		t.Run(name, func(t *testing.T) {
			var before int
			answers := service.inOneMinute(t, func() []answer {
				before = len(s.upstream.Requests())
				var list []answer
				for n := range c.passes + 2 {
					list = append(list, s.as(map[string]any{"sub": "alice", "team": c.team, "client_id": c.clients[n%len(c.clients)]}))
				}
				return append(list, s.as(map[string]any{"sub": "alice", "team": "a", "client_id": "other"}))
			})
			want := append(slices.Repeat([]int{200}, c.passes), 429, 429, 200)
			var got []int
			for _, a := range answers {
				got = append(got, a.status)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			if passed := len(s.upstream.Requests()) - before; passed != c.passes+1 {
				t.Errorf("%d requests reached the upstream, want %d", passed, c.passes+1)
			}
			checkTooMany(t, answers[c.passes], c.passes)
		})
	}

	t.Run("a public route is not counted", func(t *testing.T) {
		if a := s.servers[0].do(call{method: http.MethodGet, path: "/v1/models"}); a.status != 200 || a.header.Get("x-ratelimit-limit") != "" {
			t.Errorf("got %s, with limit %q", a, a.header.Get("x-ratelimit-limit"))
		}
	})
	t.Run("redis is away", func(t *testing.T) {
		askRedis(service.redis, "SHUTDOWN NOSAVE")
		if a := s.as(map[string]any{"sub": "alice", "team": "a", "client_id": "other"}); a.status != 503 {
			t.Errorf("got %s, want Envoy's 503", a)
		}
	})
	t.Run("the service is away", func(t *testing.T) {
		away := newSite(t, sqlite(t), plan{
			config: config, resources: limited, envoyFile: envoytest.RateLimit, envoy: rateLimit{grpc: freePorts(t, 1)[0]}.connect,
		})
		if a := away.as(map[string]any{"sub": "alice", "team": "a", "client_id": "five"}); a.status != 503 || len(away.upstream.Requests()) != 0 {
			t.Errorf("got %s, want Envoy's 503", a)
		}
	})
}

// checkTooMany looks at what a client learns of its limit.
func checkTooMany(t *testing.T, a answer, limit int) {
	t.Helper()
	var body struct {
		Error struct{ Message, Type, Code string }
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error.Code != "rate_limited" || body.Error.Message == "" {
		t.Errorf("the body is not of the form that SDKs read: %s (%v)", a.body, err)
	}
	if wait, err := strconv.Atoi(a.header.Get("retry-after")); err != nil || wait < 1 || wait > 60 {
		t.Errorf("retry-after: %q", a.header.Get("retry-after"))
	}
	if told, _, _ := strings.Cut(a.header.Get("x-ratelimit-limit"), ","); told != strconv.Itoa(limit) || a.header.Get("x-ratelimit-remaining") != "0" {
		t.Errorf("limit %q, remaining %q; want %d and 0", a.header.Get("x-ratelimit-limit"), a.header.Get("x-ratelimit-remaining"), limit)
	}
}
