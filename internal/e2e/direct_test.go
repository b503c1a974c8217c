package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// verdict is a server's answer to a request that did not come through Envoy.
type verdict struct {
	status int
	what   string // the source of an allow, the reason of a denial
	stale  bool
	took   time.Duration
}

func (v verdict) String() string {
	return fmt.Sprintf("%d %s, stale %v, after %s", v.status, v.what, v.stale, v.took)
}

// asker asks one server over one connection.
type asker struct {
	t      *testing.T
	client authv3.AuthorizationClient
}

func (v *server) asker() *asker { return &asker{v.t, authv3.NewAuthorizationClient(v.dial())} }

// ask sends a chat request with a token.
func (a *asker) ask(ctx context.Context, token string) (verdict, error) {
	request := &authv3.AttributeContext_HttpRequest{
		Method: "POST", Path: "/v1/chat/completions", Host: "api.example.com", Protocol: "HTTP/1.1", Scheme: "http",
		Headers: map[string]string{"authorization": "Bearer " + token, "content-type": "application/json"},
		RawBody: []byte(chatBody), Size: int64(len(chatBody)),
	}
	began := time.Now()
	out, err := a.client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: request},
	}})
	if err != nil {
		return verdict{}, err
	}
	fields := out.GetDynamicMetadata().GetFields()
	v := verdict{took: time.Since(began), stale: fields["stale"].GetBoolValue(), status: int(out.GetDeniedResponse().GetStatus().GetCode())}
	v.what = fields["reason"].GetStringValue()
	if out.GetOkResponse() != nil {
		v.status, v.what = 200, fields["source"].GetStringValue()
	}
	return v, nil
}

// must is ask for a server that answers. It may be called from any goroutine.
func (a *asker) must(token string) verdict {
	a.t.Helper()
	v, err := a.ask(a.t.Context(), token)
	if err != nil {
		a.t.Errorf("no answer: %v", err)
	}
	return v
}

// until asks until the answer is the wanted one and returns how long that took since the instant. It may be called from
// any goroutine.
func (a *asker) until(since time.Time, token string, status int, what string) time.Duration {
	a.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ; time.Since(since) < patience; <-tick.C {
		if v := a.must(token); v.status == status && v.what == what {
			return time.Since(since)
		}
	}
	a.t.Errorf("%s: still not %d %s", time.Since(since), status, what)
	return patience
}
