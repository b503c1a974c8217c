package adversary

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// attempt is a request in the making. It begins as one that is allowed: a chat request with a token of the home issuer,
// for a client who is mapped to a key without restrictions.
type attempt struct {
	world  *world
	issuer *issuertest.Issuer // whose token it is
	now    time.Time

	alg        string // that signs
	header     map[string]any
	headerText string // instead of the header made of the members
	claims     map[string]any
	claimsText string // instead of the claims; $base stands for their members
	sign       func(input string) ([]byte, error)
	rewrites   []func(token string) string // of the finished token, in order

	method, path, host string
	authorization      string // the header's value, with $token; "" for no header
	headers            [][2]string
	body               string
	profile            string // the route's, as Envoy says

	partial   string // Envoy's mark of a cut body; "" is what Envoy says of a whole one
	checkOnly bool   // what no client can make Envoy send
	forged    []func(*authv3.CheckRequest)
	repairs   string // the target of what Envoy makes of it, if that is allowed

	token string // once it is minted
}

// move is one step from the good request to the hostile one.
type move func(*attempt)

type moves []move

// newAttempt makes the request of a case, with a token of now.
func newAttempt(w *world, c Case) (*attempt, error) {
	a := &attempt{
		world: w, issuer: w.home, now: time.Now(), alg: "ES256", header: map[string]any{},
		method: "POST", path: "/v1/chat/completions", host: "api.example.com", authorization: "Bearer $token",
		headers: [][2]string{{"content-type", "application/json"}}, body: `{"model":"gpt-4o-mini","messages":[]}`,
	}
	a.claims = map[string]any{
		"iss": w.home.URL(), "aud": audience, "sub": "subject-alice", "iat": a.now.Unix(), "exp": a.now.Add(5 * time.Minute).Unix(),
		"email": "alice@corp.example.com", "team": "a", "client_id": "client-plain", "scope": "openid",
		"realm_access": map[string]any{"roles": []string{"user"}}, "amr": []string{"mfa"},
	}
	for _, m := range c.Moves {
		m(a)
	}
	return a, a.mint()
}

// mint makes the token and puts it where the request holds $token.
func (a *attempt) mint() error {
	claims, err := a.claimsJSON()
	if err != nil {
		return err
	}
	options := []localissuer.MintOption{localissuer.Alg(a.alg), localissuer.RawClaims(claims)}
	for name, value := range a.header {
		options = append(options, localissuer.Header(name, value))
	}
	if a.headerText != "" {
		options = append(options, localissuer.RawHeader(a.headerText))
	}
	if a.sign != nil {
		options = append(options, localissuer.Sign(a.sign))
	}
	if a.token, err = a.issuer.Issuer.Mint(nil, options...); err != nil {
		return err
	}
	for _, rewrite := range a.rewrites {
		a.token = rewrite(a.token)
	}
	a.authorization = strings.ReplaceAll(a.authorization, "$token", a.token)
	a.path = strings.ReplaceAll(a.path, "$token", a.token)
	a.body = strings.ReplaceAll(a.body, "$token", a.token)
	for i := range a.headers {
		a.headers[i][1] = strings.ReplaceAll(a.headers[i][1], "$token", a.token)
	}
	return nil
}

func (a *attempt) claimsJSON() (string, error) {
	claims := maps.Clone(a.claims)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == any(localissuer.Absent) })
	text, err := json.Marshal(claims)
	if err != nil || a.claimsText == "" {
		return string(text), err
	}
	members := strings.TrimSuffix(strings.TrimPrefix(string(text), "{"), "}")
	return strings.ReplaceAll(a.claimsText, "$base", members), nil
}

// Moves that change the token before it is signed.

const absent = localissuer.Absent

// js is a value written as it stands.
func js(text string) json.RawMessage { return json.RawMessage(text) }

func header(name string, value any) move { return func(a *attempt) { a.header[name] = value } }

// headerText replaces the whole header.
func headerText(text string) move { return func(a *attempt) { a.headerText = text } }

func claim(name string, value any) move { return func(a *attempt) { a.claims[name] = value } }

// claimsText replaces the claims; $base stands for the members of the good ones.
func claimsText(text string) move { return func(a *attempt) { a.claimsText = text } }

// date sets a NumericDate relative to now.
func date(name string, offset time.Duration) move {
	return func(a *attempt) { a.claims[name] = a.now.Add(offset).Unix() }
}

// client makes it the token of another client: "x" is the claim client_id "client-x", which testdata/resources.yaml maps
// to the key "x".
func client(name string) move { return claim("client_id", "client-"+name) }

func roles(value any) move { return claim("realm_access", map[string]any{"roles": value}) }

// of makes it a token of another issuer: its key and its name.
func of(which func(*world) *issuertest.Issuer) move {
	return func(a *attempt) {
		a.issuer = which(a.world)
		a.claims["iss"] = a.issuer.URL()
		a.claims["aud"] = a.issuer.Audience()
	}
}

func other(w *world) *issuertest.Issuer { return w.other }

func stranger(w *world) *issuertest.Issuer { return w.stranger }

// Moves that change what is asked for.

func method(name string) move { return func(a *attempt) { a.method = name } }

func path(target string) move { return func(a *attempt) { a.path = target } }

// get asks for another path, without a body.
func get(target string) move {
	return func(a *attempt) { a.method, a.path, a.body, a.headers = "GET", target, "", nil }
}

func host(name string) move { return func(a *attempt) { a.host = name } }

func body(text string) move { return func(a *attempt) { a.body = text } }

// form makes the body one of another type.
func form(contentType, text string) move {
	return func(a *attempt) { a.headers, a.body = [][2]string{{"content-type", contentType}}, text }
}

// send adds a header; $token stands for the token.
func send(name, value string) move {
	return func(a *attempt) { a.headers = append(a.headers, [2]string{name, value}) }
}

// spoofed is the value of headers that must not reach the upstream.
const spoofed = "spoofed"

func spoof(name string) move { return send(name, spoofed) }

// authorization replaces the header's value; $token stands for the token, and "" for no header.
func authorization(value string) move { return func(a *attempt) { a.authorization = value } }

func anonymous(a *attempt) { a.authorization = "" }

// secret makes the credential the text of a key in testdata/resources.yaml.
func secret(alias string) move {
	return func(a *attempt) { a.authorization = "Bearer " + a.world.secrets[alias] }
}

func profile(name string) move { return func(a *attempt) { a.profile = name } }

func noHeaders(a *attempt) { a.headers = nil }

// forge changes the finished check into one that no Envoy sends; nil changes nothing, for a case that is one already.
func forge(change func(*authv3.CheckRequest)) move {
	return func(a *attempt) {
		a.checkOnly = true
		if change != nil {
			a.forged = append(a.forged, change)
		}
	}
}

// forgeHTTP is forge for the part that describes the request.
func forgeHTTP(change func(*authv3.AttributeContext_HttpRequest)) move {
	return forge(func(in *authv3.CheckRequest) { change(in.GetAttributes().GetRequest().GetHttp()) })
}

// cut is a body of which Envoy says that it is not whole.
func cut(a *attempt) { a.partial, a.checkOnly = "true", true }

// unsent is a body that Envoy was not told to send along.
func unsent(a *attempt) {
	forgeHTTP(func(h *authv3.AttributeContext_HttpRequest) {
		h.RawBody, h.Size = nil, 0
		delete(h.Headers, partialBody)
		if h.HeaderMap != nil {
			h.HeaderMap.Headers = slices.DeleteFunc(h.HeaderMap.GetHeaders(), func(v *corev3.HeaderValue) bool { return v.GetKey() == partialBody })
		}
	})(a)
}

// partialBody is Envoy's mark of a cut body.
const partialBody = "x-envoy-auth-partial-body"

func forgeSize(bytes int64) move {
	return forgeHTTP(func(h *authv3.AttributeContext_HttpRequest) { h.Size = bytes })
}

// repaired says that Envoy makes another request of it, which is allowed: one without an upgrade, or of this target.
func repaired(target string) move { return func(a *attempt) { a.repairs = target } }
