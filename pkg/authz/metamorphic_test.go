package authz

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"pgregory.net/rapid"
)

type httpRequest = authv3.AttributeContext_HttpRequest

// sameRequests are other ways to send the same request.
func sameRequests() map[string]func(t *rapid.T, h *httpRequest) {
	return map[string]func(t *rapid.T, h *httpRequest){
		"headers in another order": func(t *rapid.T, h *httpRequest) {
			h.HeaderMap.Headers = rapid.Permutation(h.HeaderMap.Headers).Draw(t, "order")
		},
		"names in another case": func(_ *rapid.T, h *httpRequest) {
			for _, header := range h.HeaderMap.Headers {
				header.Key = strings.ToUpper(header.Key)
			}
		},
		"headers as text": func(_ *rapid.T, h *httpRequest) {
			for _, header := range h.HeaderMap.Headers {
				header.Value, header.RawValue = string(header.RawValue), nil
			}
		},
		"joined headers": func(_ *rapid.T, h *httpRequest) {
			h.Headers = make(map[string]string)
			for _, header := range h.HeaderMap.Headers {
				h.Headers[header.Key] = string(header.RawValue)
			}
			h.HeaderMap = nil
		},
		"a header that means nothing": func(_ *rapid.T, h *httpRequest) {
			h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: "x-other", RawValue: []byte("o1, \xff")})
		},
		"a body of text": func(_ *rapid.T, h *httpRequest) { h.Body, h.RawBody = string(h.RawBody), nil },
		"another order of the query": func(t *rapid.T, h *httpRequest) {
			path, query := splitTarget(h.Path)
			if query != "" {
				h.Path = path + "?" + strings.Join(rapid.Permutation(strings.Split(query, "&")).Draw(t, "order"), "&")
			}
		},
		"an escaped path": func(t *rapid.T, h *httpRequest) {
			path, query := splitTarget(h.Path)
			if at := rapid.IntRange(1, len(path)-1).Draw(t, "at"); path[at] != '/' {
				path = path[:at] + "%" + strings.ToUpper(string("0123456789abcdef"[path[at]>>4])+string("0123456789abcdef"[path[at]&15])) + path[at+1:]
			}
			h.Path = path
			if query != "" {
				h.Path += "?" + query
			}
		},
	}
}

// TestSameRequestSameVerdict: how a request is written down does not matter.
func TestSameRequestSameVerdict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		want := w.decide(t)
		for name, change := range sameRequests() {
			request := w.request()
			change(t, request.GetAttributes().GetRequest().GetHttp())
			got := w.decideOf(t, request)
			if got.Source != want.Source || got.Outcome.Reason != want.Outcome.Reason || got.Shadowed != want.Shadowed ||
				got.Request.Request != want.Request.Request || got.Member.TeamID != want.Member.TeamID {
				t.Errorf("%s: %q %q, want %q %q", name, got.Source, got.Outcome.Reason, want.Source, want.Outcome.Reason)
			}
		}
	})
}
