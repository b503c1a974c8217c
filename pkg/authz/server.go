// Package authz is the external authorization service that Envoy calls: it reads a CheckRequest,
// runs the decision and builds the CheckResponse.
//
// It decides the order of the steps and what a client is told. It trusts Envoy for what Envoy
// observed (method, path, headers as they arrived), not for what the client said in them. Tokens,
// policy and keys are the business of packages token, teams, keys and mapping. Every failure,
// panics and deadlines included, ends in a denial inside an OK gRPC answer: a gRPC error would
// obey Envoy's failure_mode_allow.
package authz

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/authz/wire"
)

// Config says how a [Server] decides. A server runs by one as a whole, and can be given another.
type Config struct {
	// Profiles are by name. An Envoy route selects one by the context extension "profile"; one that
	// selects none gets "". A profile that is not here denies.
	Profiles map[string]Profile
	// Timeout bounds one decision. It must be shorter than Envoy's own timeout, or Envoy's failure mode
	// decides instead of us.
	Timeout time.Duration
	// MaxWait is how long a check may have waited, since it came, when it is begun; one that waited longer is denied as
	// overloaded. 0 is no bound.
	MaxWait time.Duration
	// Waited, if not nil, is told how long each check has waited. It must not block.
	Waited func(time.Duration)
	// Observe is told of every decision, after the answer is built. It must not block.
	Observe func(ctx context.Context, d *Decision, elapsed time.Duration)
}

// Profile is how the requests of some routes are decided.
type Profile struct {
	Authorizer *Authorizer
	// Selector is the lower-case name of the header in which a client may choose one of its teams;
	// empty: it may not.
	Selector string
	// ModelHeaders are the lower-case names of headers that are trusted to name the model.
	ModelHeaders []string
	// Response says how answers look.
	Response ResponseConfig
	// Shadow allows what would be denied, and records it.
	Shadow bool
}

// profileExtension is the context extension that names a profile. It comes from Envoy's route
// configuration, never from the client.
const profileExtension = "profile"

// Server implements envoy.service.auth.v3.Authorization. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	rules atomic.Pointer[rules]
}

// rules are a compiled Config.
type rules struct {
	config     Config
	profiles   map[string]*profile
	fallback   responder // for requests whose profile is unknown: it only ever denies
	overloaded []byte    // the answer to a check that is not begun, written; nil if each is read before it is denied
}

// profile is a compiled Profile.
type profile struct {
	reader   requestReader
	decider  *Authorizer
	response responder
	shadow   bool
}

// NewServer returns a server.
func NewServer(config Config) (*Server, error) {
	s := &Server{}
	if err := s.Replace(config); err != nil {
		return nil, err
	}
	return s, nil
}

// Replace makes the server decide by another configuration, whole, from the next check on. Checks under
// way end by the one they began with. On an error the server goes on as it was.
func (s *Server) Replace(config Config) error {
	compiled := &rules{config: config, profiles: make(map[string]*profile)}
	for name, p := range config.Profiles {
		models, err := newModelReader(p.ModelHeaders)
		if err != nil {
			return err
		}
		compiled.profiles[name] = &profile{
			reader:   requestReader{selector: p.Selector, models: models},
			decider:  p.Authorizer,
			response: newResponder(p.Response, p.Authorizer.CredentialHeaders),
			shadow:   p.Shadow,
		}
	}
	if p, ok := compiled.profiles[""]; ok {
		compiled.fallback = p.response
	}
	compiled.prepare()
	s.rules.Store(compiled)
	return nil
}

// deadlineMargin is kept back from Envoy's deadline to send the answer in.
const deadlineMargin = 10 * time.Millisecond

// Check implements the gRPC service. It never returns an error.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return responseOf(s.check(ctx, wire.RequestOf(in))), nil
}

// responseOf is the generated code's reading of an answer. Nothing that is written here cannot be read; if it could not, it
// would be no ALLOW.
func responseOf(answer []byte) *authv3.CheckResponse {
	out := &authv3.CheckResponse{}
	if err := proto.Unmarshal(answer, out); err != nil {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(code.Code_INTERNAL)}}
	}
	return out
}

// CheckBytes is Check on messages in protobuf's wire format, which it neither reads nor writes whole: see package wire. A
// CheckRequest that cannot be read is denied as malformed; a gRPC error would leave the request to Envoy's failure
// mode (CVE-2023-27488). in must not be changed afterwards.
func (s *Server) CheckBytes(ctx context.Context, in []byte) []byte {
	return s.check(ctx, readBytes(in))
}

// readBytes returns nil for what cannot be read, a bug in reading it included.
func readBytes(in []byte) (request *wire.Request) {
	defer func() {
		if p := recover(); p != nil {
			request = nil
		}
	}()
	request, err := wire.UnmarshalRequest(in)
	if err != nil {
		return nil
	}
	return request
}

// check returns an answer in protobuf's wire format. in is nil if it could not be read.
func (s *Server) check(ctx context.Context, in *wire.Request) (out []byte) {
	start, r := time.Now(), s.rules.Load()
	defer func() {
		if p := recover(); p != nil && out == nil { // a bug in building or observing the answer
			out = r.fallback.deny(&Decision{ID: newID(), Outcome: outcomeOf(errInternal)})
		}
	}()
	c := &checkContext{Context: ctx, began: start, deadline: r.deadline(ctx, start)}
	defer c.end()
	d, answer := r.answer(c, in)
	r.config.Observe(ctx, d, time.Since(start))
	return answer
}

// Explain is Check with its steps written down, for the operator. It is observed by nobody.
func (s *Server) Explain(ctx context.Context, in *authv3.CheckRequest) (*Decision, *authv3.CheckResponse, []trace.Step) {
	start, r := time.Now(), s.rules.Load()
	c := &checkContext{Context: ctx, began: start, deadline: r.deadline(ctx, start), record: trace.Record{Steps: []trace.Step{}}}
	defer c.end()
	d, out := r.answer(c, wire.RequestOf(in))
	return d, responseOf(out), c.record.Steps
}

func (r *rules) deadline(ctx context.Context, start time.Time) time.Time {
	deadline := start.Add(r.config.Timeout)
	if theirs, ok := ctx.Deadline(); ok && theirs.Add(-deadlineMargin).Before(deadline) {
		return theirs.Add(-deadlineMargin)
	}
	return deadline
}

func (r *rules) answer(ctx *checkContext, in *wire.Request) (*Decision, []byte) {
	if in == nil {
		return r.refuse(fmt.Errorf("%w: it cannot be read", ErrRequestMalformed))
	}
	name := in.Extensions[profileExtension]
	p, known := r.profiles[name]
	if !known {
		return r.refuse(fmt.Errorf("%w: %q", errProfile, name))
	}
	d := r.decide(ctx, p, in)
	d.Stale = ctx.record.Stale && !d.Outcome.outage() // with no decision there is nothing out of date
	if len(ctx.record.Shadowed) > 0 {
		d.Shadowed = outcomeOf(ctx.record.Shadowed[0]).Reason
	}
	return d, p.response.answer(d)
}

// newID returns the id of a decision: 26 characters of 128 random bits, so that no two decisions share one. It is no secret.
func newID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // base32
	var id [26]byte
	for half := 0; half < len(id); half += len(id) / 2 {
		bits := rand.Uint64() //nolint:gosec // see above
		for n := range len(id) / 2 {
			id[half+n] = alphabet[bits%32]
			bits /= 32
		}
	}
	return string(id[:])
}

// refuse denies a request of which not even the profile is known.
func (r *rules) refuse(err error) (*Decision, []byte) {
	d := &Decision{ID: newID(), Err: err, Outcome: outcomeOf(err)}
	return d, r.fallback.deny(d)
}

// decide reads the request and decides it. The decision is looked at once more at its end: one that
// took too long, or whose caller has gone, is an outage and not its partial result.
func (r *rules) decide(ctx *checkContext, p *profile, in *wire.Request) *Decision {
	d := &Decision{ID: newID()}
	d.Err = r.begin(ctx, p, in, d)
	if d.Err == nil && d.Source == "" {
		d.Err = fmt.Errorf("%w: no source", errInternal)
	}
	if late := ctx.Err(); late != nil && (d.Err == nil || outcomeOf(d.Err).Status != 503) {
		d.Err = fmt.Errorf("%w: %w", errDeadline, late)
	}
	if d.Err != nil {
		p.deny(ctx, d)
	}
	return d
}

// deny gives a failed decision its outcome, or in shadow mode records it and lets the request pass.
func (p *profile) deny(ctx *checkContext, d *Decision) {
	if p.shadow {
		ctx.record.Shadow(d.Err)
		d.Source, d.Err, d.Secret = SourceShadow, nil, ""
		return
	}
	d.Source, d.Secret, d.Outcome = "", "", outcomeOf(d.Err)
}

// safely turns a panic into an error, so that a bug denies one request instead of ending the process
// and leaving every request to Envoy's failure mode.
func (p *profile) safely(ctx *checkContext, in *wire.Request, d *Decision) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: panic: %v", errInternal, cause)
		}
	}()
	if d.Request, err = p.reader.read(in); err != nil {
		return err
	}
	if ctx.record.Explaining() {
		ctx.record.Add("request", "%s %s, model %s", d.Request.Method, d.Request.Path, d.Request.Model.String())
	}
	return p.decider.decide(ctx, d)
}
