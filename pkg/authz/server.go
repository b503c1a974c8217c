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
	"crypto/rand"
	"fmt"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/internal/trace"
)

// Config configures a [Server].
type Config struct {
	// Profiles are by name. An Envoy route selects one by the context extension "profile"; one that
	// selects none gets "". A profile that is not here denies.
	Profiles map[string]Profile
	// Timeout bounds one decision. It must be shorter than Envoy's own timeout, or Envoy's failure mode
	// decides instead of us.
	Timeout time.Duration
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
	config   Config
	profiles map[string]*profile
	fallback responder // for requests whose profile is unknown: it only ever denies
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
	s := &Server{config: config, profiles: make(map[string]*profile)}
	for name, p := range config.Profiles {
		models, err := newModelReader(p.ModelHeaders)
		if err != nil {
			return nil, err
		}
		s.profiles[name] = &profile{
			reader:   requestReader{selector: p.Selector, models: models},
			decider:  p.Authorizer,
			response: newResponder(p.Response, p.Authorizer.CredentialHeaders),
			shadow:   p.Shadow,
		}
	}
	if p, ok := s.profiles[""]; ok {
		s.fallback = p.response
	}
	return s, nil
}

// deadlineMargin is kept back from Envoy's deadline to send the answer in.
const deadlineMargin = 10 * time.Millisecond

// Check implements the gRPC service. It never returns an error.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (out *authv3.CheckResponse, _ error) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil && out == nil { // a bug in building or observing the answer
			out = s.fallback.deny(&Decision{ID: rand.Text(), Outcome: outcomeOf(errInternal)})
		}
	}()
	d, answer := s.answer(ctx, in, &trace.Record{})
	s.config.Observe(ctx, d, time.Since(start))
	return answer, nil
}

// Explain is Check with its steps written down, for the operator. It is observed by nobody.
func (s *Server) Explain(ctx context.Context, in *authv3.CheckRequest) (*Decision, *authv3.CheckResponse, []trace.Step) {
	record := &trace.Record{Steps: []trace.Step{}}
	d, out := s.answer(ctx, in, record)
	return d, out, record.Steps
}

func (s *Server) answer(ctx context.Context, in *authv3.CheckRequest, record *trace.Record) (*Decision, *authv3.CheckResponse) {
	name := in.GetAttributes().GetContextExtensions()[profileExtension]
	p, known := s.profiles[name]
	if !known {
		d := &Decision{ID: rand.Text(), Err: fmt.Errorf("%w: %q", errProfile, name), Outcome: outcomeOf(errProfile)}
		return d, s.fallback.deny(d)
	}
	d := s.decide(trace.With(ctx, record), p, in)
	d.Stale = record.Stale && !d.Outcome.outage() // with no decision there is nothing out of date
	if len(record.Shadowed) > 0 {
		d.Shadowed = outcomeOf(record.Shadowed[0]).Reason
	}
	return d, p.response.answer(d)
}

// decide reads the request and decides it. The decision is looked at once more at its end: one that
// took too long, or whose caller has gone, is an outage and not its partial result.
func (s *Server) decide(ctx context.Context, p *profile, in *authv3.CheckRequest) *Decision {
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	d := &Decision{ID: rand.Text()}
	d.Err = p.safely(ctx, in, d)
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
func (p *profile) deny(ctx context.Context, d *Decision) {
	if p.shadow {
		trace.From(ctx).Shadow(d.Err)
		d.Source, d.Err, d.Secret = SourceShadow, nil, ""
		return
	}
	d.Source, d.Secret, d.Outcome = "", "", outcomeOf(d.Err)
}

func (s *Server) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(s.config.Timeout)
	if theirs, ok := ctx.Deadline(); ok && theirs.Add(-deadlineMargin).Before(deadline) {
		deadline = theirs.Add(-deadlineMargin)
	}
	return context.WithDeadline(ctx, deadline)
}

// safely turns a panic into an error, so that a bug denies one request instead of ending the process
// and leaving every request to Envoy's failure mode.
func (p *profile) safely(ctx context.Context, in *authv3.CheckRequest, d *Decision) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: panic: %v", errInternal, cause)
		}
	}()
	if d.Request, err = p.reader.read(in); err != nil {
		return err
	}
	if record := trace.From(ctx); record.Explaining() {
		record.Add("request", "%s %s, model %s", d.Request.Method, d.Request.Path, d.Request.Model)
	}
	return p.decider.decide(ctx, d)
}
