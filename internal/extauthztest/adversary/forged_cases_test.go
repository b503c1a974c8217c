package adversary

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

const neighbour = "SECURITY 1: a rogue neighbour forges checks"

// forgedCases are checks that no Envoy sends: somebody who reaches the port does.
func forgedCases() []Case {
	bad := deny(400, "request_malformed")
	type http = authv3.AttributeContext_HttpRequest
	return []Case{
		{"no attributes", neighbour, bad, moves{forge(func(in *authv3.CheckRequest) { in.Attributes = nil })}},
		{"no request", neighbour, bad, moves{forge(func(in *authv3.CheckRequest) { in.Attributes.Request = nil })}},
		{"no HTTP part", neighbour, bad, moves{forge(func(in *authv3.CheckRequest) { in.Attributes.Request.Http = nil })}},
		{"an empty HTTP part", neighbour, bad, moves{forge(func(in *authv3.CheckRequest) { in.Attributes.Request.Http = &http{} })}},
		{"both forms of headers", "R8: the two forms are never mixed", bad, moves{forgeHTTP(func(h *http) {
			h.Headers = map[string]string{"x-a": "b"}
			h.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "x-a", Value: "b"}}}
		})}},
		{"a credential in one form, another in the other", "R8: the two forms are never mixed", bad, moves{forgeHTTP(func(h *http) {
			h.Headers = map[string]string{"authorization": "Bearer x"}
			h.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "authorization", Value: "Bearer y"}}}
		})}},
		{"two values of one header", neighbour, bad, moves{forgeHTTP(func(h *http) {
			h.Headers = nil
			h.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "authorization", Value: "Bearer x", RawValue: []byte("Bearer y")}}}
		})}},
		{"both forms of the body", neighbour, bad, moves{forgeHTTP(func(h *http) {
			h.Body, h.RawBody = `{"model":"gpt-4o-mini"}`, []byte(`{"model":"gpt-4o"}`)
		})}},
		{"a profile that nobody configured", "the profile is the route's", deny(500, "profile_unknown"), moves{forge(func(in *authv3.CheckRequest) {
			in.Attributes.ContextExtensions = map[string]string{"profile": "nope"}
		})}},
		{"verified claims in the metadata", "ENVOY: trusted only by explicit configuration", deny(401, "token_missing"), moves{anonymous, forge(func(in *authv3.CheckRequest) {
			claims, err := structpb.NewStruct(map[string]any{"sub": "subject-root", "scope": "extauthz_admin"})
			if err != nil {
				panic(err) // plain texts
			}
			in.Attributes.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.jwt_authn": claims}}
		})}},
		{"a principal of the peer", "CVE-2025-66220: not an identity here", deny(401, "token_missing"), moves{anonymous, forge(func(in *authv3.CheckRequest) {
			in.Attributes.Source = &authv3.AttributeContext_Peer{Principal: "spiffe://x/admin", Certificate: "x"}
		})}},
		{"a thousand headers", neighbour, allow("mapping"), moves{forgeHTTP(func(h *http) {
			for n := range 1000 {
				name := "x-" + strings.Repeat("a", n)
				if h.HeaderMap == nil {
					h.Headers[name] = "b"
				} else {
					h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte("b")})
				}
			}
		})}},
		{"a body of 3 MiB", "R10: within the message bound", deny(403, "model_required"), moves{client("mini"), body(strings.Repeat("x", 3<<20)), forge(nil)}},
	}
}
