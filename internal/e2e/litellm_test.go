package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// modelServer is the least of OpenAI's API: it answers every chat completion with the same words.
type modelServer struct {
	*httptest.Server
	key string // what it accepts as the credential

	mu   sync.Mutex
	seen strings.Builder // every request: method, path, headers and body
}

// words is the answer, in the pieces of a stream.
func words() []string { return []string{"Hello ", "from ", "the ", "model."} }

func startModelServer(t *testing.T) *modelServer {
	m := &modelServer{key: "sk-" + rand.Text()}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *modelServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := m.record(r)
	var asked struct {
		Model  string
		Stream bool
	}
	if err != nil || r.URL.Path != "/v1/chat/completions" || json.Unmarshal(body, &asked) != nil {
		http.Error(w, "not a chat completion", http.StatusBadRequest)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+m.key {
		http.Error(w, "not the model server's key", http.StatusUnauthorized)
		return
	}
	if asked.Stream {
		stream(w, asked.Model)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // fails only if the client is gone
		"id": "c1", "object": "chat.completion", "created": time.Now().Unix(), "model": asked.Model,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop",
			"message": map[string]any{"role": "assistant", "content": strings.Join(words(), "")},
		}},
		"usage": map[string]any{"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5},
	})
}

// stream answers with server-sent events, a piece each.
func stream(w http.ResponseWriter, model string) {
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(delta map[string]any, finish any) {
		text, err := json.Marshal(map[string]any{
			"id": "c1", "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		})
		if err == nil {
			fmt.Fprintf(w, "data: %s\n\n", text)
			_ = http.NewResponseController(w).Flush() // fails only if the client is gone
		}
	}
	for _, word := range words() {
		event(map[string]any{"role": "assistant", "content": word}, nil)
	}
	event(map[string]any{}, "stop")
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func (m *modelServer) record(r *http.Request) ([]byte, error) {
	head, err := httputil.DumpRequest(r, false)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen.Write(head)
	m.seen.Write(body)
	return body, err
}

func (m *modelServer) requests() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen.String()
}

// litellm is a running LiteLLM proxy, and what reached it through its front.
type litellm struct {
	address   string // of the proxy itself
	front     *httptest.Server
	masterKey string
	model     *modelServer

	mu   sync.Mutex
	seen []http.Header
}

// startLiteLLM starts LiteLLM without a database, before a model server: it accepts its master key and nothing else.
// Settings are added to its general settings.
func startLiteLLM(t *testing.T, settings string) *litellm {
	t.Helper()
	binary := installed(t, "litellm/bin/litellm", "deps")
	l := &litellm{masterKey: "sk-" + rand.Text(), model: startModelServer(t)}
	home := t.TempDir()
	config := filepath.Join(home, "litellm.yaml")
	text := fmt.Sprintf(`
model_list:
- model_name: gpt-4o
  litellm_params: {model: openai/gpt-4o, api_base: "%s/v1", api_key: os.environ/MODEL_SERVER_KEY}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, %s}
`, l.model.URL, settings)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := neighbour{
		name: "litellm", ports: 1, patience: 4 * time.Minute, // it takes 6 seconds on an idle machine
		command: func(ports []string) *exec.Cmd {
			command := exec.Command(binary, "--config", config, "--host", "127.0.0.1", "--port", ports[0], "--telemetry", "False")
			// Nothing else of the environment: a DATABASE_URL or a proxy setting there would change what is tested.
			command.Env = []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LITELLM_MASTER_KEY=" + l.masterKey, "MODEL_SERVER_KEY=" + l.model.key,
				"LITELLM_LOCAL_MODEL_COST_MAP=True", // no price list from the internet
			}
			return command
		},
		ready: func(ports []string) bool { return answersOK("http://127.0.0.1:" + ports[0] + "/health/liveliness") },
	}.start(t)
	l.address = "127.0.0.1:" + ports[0]
	l.front = httptest.NewServer(l)
	t.Cleanup(l.front.Close)
	return l
}

// ServeHTTP notes the headers of a request on its way from Envoy to LiteLLM.
func (l *litellm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.seen = append(l.seen, r.Header.Clone())
	l.mu.Unlock()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: l.address})
	proxy.FlushInterval = -1 // streams go on as they come
	proxy.ServeHTTP(w, r)
}

// arrived returns the headers of the requests that Envoy sent.
func (l *litellm) arrived() []http.Header {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]http.Header(nil), l.seen...)
}

// complete asks for a completion, or for the models if there is no body.
func complete(t *testing.T, address, token, body string, headers ...string) (status int, text string) {
	t.Helper()
	method, path := http.MethodPost, "/v1/chat/completions"
	if body == "" {
		method, path = http.MethodGet, "/v1/models"
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	for n := 0; n < len(headers); n += 2 {
		request.Header.Set(headers[n], headers[n+1])
	}
	response, err := client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(all)
}

const (
	question = `{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}`
	streamed = `{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],"stream":true}`
)

// A real LiteLLM gets the caller's virtual key, which it accepts, and never the JWT, which it does not.
func TestLiteLLM(t *testing.T) {
	for name, c := range map[string]struct {
		ours, litellms string // settings
		header         string // that carries the key
	}{
		"in the authorization header": {"", "", "Authorization"},
		// The one that docs/sealing.md recommends.
		"in a header of its own": {
			"key_header: {name: x-extauthz-upstream-key}\n", "litellm_key_header_name: x-extauthz-upstream-key", "X-Extauthz-Upstream-Key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLiteLLM(t, c.litellms)
			s := newSite(t, sqlite(t), plan{
				config:   reject + "upstream_credential: virtual_key\nsealing: {keyset_file: " + newKeyset(t) + "}\n" + c.ours,
				upstream: strings.TrimPrefix(l.front.URL, "http://"),
				resources: teamA + "keys: [{alias: alice, secret: " + l.masterKey + ", team_id: a}]\n" +
					"mappings: [{claim: client_id, value: client-1, key: alice}]\n",
			})
			envoy, token := s.servers[0].envoy.URL, s.issuer.Mint(client1())

			if status, text := complete(t, envoy, token, question); status != 200 || contentOf(t, text) != strings.Join(words(), "") {
				t.Errorf("a completion: %d %s", status, text)
			}
			if status, text := complete(t, envoy, token, streamed); status != 200 || streamedContent(t, text) != strings.Join(words(), "") {
				t.Errorf("a streamed completion: %d %s", status, text)
			}
			if status, text := complete(t, envoy, token, ""); status != 200 || !strings.Contains(text, `"gpt-4o"`) {
				t.Errorf("the models: %d %s", status, text)
			}
			if status, text := complete(t, envoy, s.issuer.Mint(with(client1(), "client_id", "nobody")), question); status != 403 {
				t.Errorf("a caller without a mapping: %d %s", status, text)
			}

			arrived := l.arrived()
			if len(arrived) != 3 {
				t.Errorf("%d requests reached LiteLLM, want 3", len(arrived))
			}
			for _, header := range arrived {
				if got := header.Get(c.header); got != "Bearer "+l.masterKey {
					t.Error("LiteLLM did not get the key")
				}
				if text := fmt.Sprint(header); strings.Contains(text, "eyJ") {
					t.Errorf("a JWT reached LiteLLM: %s", text)
				}
			}
			if seen := l.model.requests(); strings.Count(seen, "POST /v1/chat/completions") != 2 || strings.Contains(seen, "eyJ") || strings.Contains(seen, l.masterKey) {
				t.Errorf("the model server saw %s", seen)
			}
			for _, header := range []string{"Authorization", c.header} {
				if status, text := complete(t, "http://"+l.address, token, question, header, "Bearer "+token); status < 400 {
					t.Errorf("LiteLLM took the JWT in %s: %d %s", header, status, text)
				}
			}

			// LiteLLM prefers this header to authorization, so there a client can put a key of its own in place of its caller's.
			status, text := complete(t, envoy, token, question, "x-litellm-api-key", "sk-"+rand.Text())
			if own := c.header != "Authorization"; own != (status == 200) {
				t.Errorf("with a client's x-litellm-api-key: %d %s", status, text)
			}
		})
	}
}

// contentOf returns the text of a completion.
func contentOf(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Choices []struct{ Message, Delta struct{ Content string } }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Choices) != 1 {
		t.Fatalf("not a completion: %s (%v)", body, err)
	}
	return answer.Choices[0].Message.Content + answer.Choices[0].Delta.Content
}

// streamedContent returns the text of a stream that came to its end.
func streamedContent(t *testing.T, body string) string {
	t.Helper()
	events, done := strings.CutSuffix(strings.TrimSpace(body), "data: [DONE]")
	if !done {
		t.Fatalf("the stream has no end: %s", body)
	}
	var text strings.Builder
	for event := range strings.FieldsFuncSeq(events, func(r rune) bool { return r == '\n' }) {
		text.WriteString(contentOf(t, strings.TrimPrefix(event, "data: ")))
	}
	return text.String()
}
