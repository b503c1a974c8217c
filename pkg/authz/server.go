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
)

// Config configures a [Server].
type Config struct {
	Authorizer *Authorizer
	// Selector is the lower-case name of the header in which a client may choose one of its teams;
	// empty: it may not.
	Selector string
	// ModelHeaders are the lower-case names of headers that are trusted to name the model.
	ModelHeaders []string
	// Response says how answers look.
	Response ResponseConfig
	// Timeout bounds one decision. It must be shorter than Envoy's own timeout, or Envoy's failure mode
	// decides instead of us.
	Timeout time.Duration
	// Observe is told of every decision, after the answer is built. It must not block.
	Observe func(ctx context.Context, d *Decision, elapsed time.Duration)
}

// Server implements envoy.service.auth.v3.Authorization. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	config   Config
	reader   requestReader
	response responder
}

// NewServer returns a server.
func NewServer(config Config) (*Server, error) {
	models, err := newModelReader(config.ModelHeaders)
	if err != nil {
		return nil, err
	}
	return &Server{
		config:   config,
		reader:   requestReader{selector: config.Selector, models: models},
		response: newResponder(config.Response, config.Authorizer.CredentialHeaders),
	}, nil
}

// deadlineMargin is kept back from Envoy's deadline to send the answer in.
const deadlineMargin = 10 * time.Millisecond

// Check implements the gRPC service. It never returns an error.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (out *authv3.CheckResponse, _ error) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil && out == nil { // a bug in building or observing the answer
			d := &Decision{ID: rand.Text(), Outcome: outcomeOf(errInternal)}
			out = s.response.deny(d)
		}
	}()
	d := s.decide(ctx, in)
	answer := s.response.answer(d)
	s.config.Observe(ctx, d, time.Since(start))
	return answer, nil
}

// decide reads the request and decides it. The decision is looked at once more at its end: one that
// took too long, or whose caller has gone, is an outage and not its partial result.
func (s *Server) decide(ctx context.Context, in *authv3.CheckRequest) *Decision {
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	d := &Decision{ID: rand.Text()}
	d.Err = s.safely(ctx, in, d)
	if d.Err == nil && d.Source == "" {
		d.Err = fmt.Errorf("%w: no source", errInternal)
	}
	if late := ctx.Err(); late != nil && (d.Err == nil || outcomeOf(d.Err).Status != 503) {
		d.Err = fmt.Errorf("%w: %w", errDeadline, late)
	}
	if d.Err != nil {
		d.Source, d.Outcome = "", outcomeOf(d.Err)
	}
	return d
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
func (s *Server) safely(ctx context.Context, in *authv3.CheckRequest, d *Decision) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v", errInternal, p)
		}
	}()
	if d.Request, err = s.reader.read(in); err != nil {
		return err
	}
	return s.config.Authorizer.decide(ctx, d)
}
