package authz

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/pkg/authz/wire"
	"github.com/extauthz/extauthz/pkg/teams"
)

// A path is read before the caller is known, so its length must not be worth an attack. To read one of these by each of its
// segments took seconds.
func TestLongPathsAreReadInTime(t *testing.T) {
	for _, form := range []string{"/deployments", "/engines", "/models", "/tunedModels", "/MODEL"} {
		for _, end := range []string{"/completions", "/a/completions", "/a/invoke", "/a:generate"} {
			n, path := &modelNames{}, strings.Repeat(form, 60_000/len(form))+end
			began := time.Now()
			n.addPath(path)
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("%s ... %s: %s", form, end, took)
			}
			if _, err := n.model(true); !errors.Is(err, ErrModelAmbiguous) {
				t.Errorf("%s ... %s: %v", form, end, err)
			}
		}
	}
}

// What is kept of a request, a team's name as the key of a cache, does not keep its body in memory.
func TestSelectedTeamKeepsNoRequest(t *testing.T) {
	const requests, body = 40, 1 << 20
	reader := newReader(t)
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, kept := live(), make([]teams.TeamID, 0, requests)
	for n := range requests {
		data, err := proto.Marshal(in(func(h *authv3.AttributeContext_HttpRequest) {
			h.RawBody = make([]byte, body)
			h.HeaderMap = rawHeaders("x-team-id", fmt.Sprint("team-", n))
		}))
		if err != nil {
			t.Fatal(err)
		}
		read, err := wire.UnmarshalRequest(data)
		if err != nil {
			t.Fatal(err)
		}
		r, err := reader.read(read)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, r.Team)
	}
	if after := live(); after > before+requests*body/4 {
		t.Errorf("%d names of teams keep %d KiB", len(kept), (after-before)>>10)
	}
	runtime.KeepAlive(kept)
	long := in(func(h *authv3.AttributeContext_HttpRequest) {
		h.HeaderMap = rawHeaders("x-team-id", strings.Repeat("a", 1025))
	})
	if _, err := reader.read(wire.RequestOf(long)); !errors.Is(err, ErrRequestMalformed) {
		t.Errorf("a name of 1025 bytes: %v", err)
	}
}

// In shadow mode a request passes that was refused before it was read, or that came too late. A client's own copies of
// identity headers do not.
func TestShadowRemovesSpoofedHeadersOfWhatWasNotRead(t *testing.T) {
	s := testServer(t, alice, teams.Config{}, func(p *Profile) { p.Shadow = true })
	gone, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		change func(*authv3.AttributeContext_HttpRequest)
	}{
		"a path that is refused":   {t.Context(), func(h *authv3.AttributeContext_HttpRequest) { h.Path = "/v1//x" }},
		"a method that is refused": {t.Context(), func(h *authv3.AttributeContext_HttpRequest) { h.Method = "CONNECT" }},
		"both forms of headers":    {t.Context(), func(h *authv3.AttributeContext_HttpRequest) { h.Headers = map[string]string{"a": "b"} }},
		"no time is left":          {gone, func(*authv3.AttributeContext_HttpRequest) {}},
	} {
		out, err := s.Check(c.ctx, in(func(h *authv3.AttributeContext_HttpRequest) {
			h.HeaderMap = rawHeaders("x-extauthz_team-id", "admin")
			c.change(h)
		}))
		if err != nil || out.GetOkResponse() == nil {
			t.Fatalf("%s: %v, %v", name, out, err)
		}
		if !slices.Contains(out.GetOkResponse().GetHeadersToRemove(), "x-extauthz_team-id") {
			t.Errorf("%s: the client's header reaches the upstream: %v", name, out.GetOkResponse())
		}
	}
}
