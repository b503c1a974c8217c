package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/tap"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/pkg/authz/wire"
)

// errLate is of a check that has waited too long to be begun.
var errLate error = &admission.Error{At: "arrival"}

// stamp notes when a check came, on the goroutine that reads the connection: while there is more to do than can be
// done, a check waits most for its own goroutine to run. It never refuses: that would be a gRPC error, which Envoy's
// failure mode may turn into an ALLOW.
func stamp(ctx context.Context, _ *tap.Info) (context.Context, error) {
	return admission.Arrive(ctx), nil
}

// late reports whether a check that has waited so long comes too late to be begun: it has waited longer than MaxWait, or
// than what is left until Envoy gives it up. Otherwise, under overload, each answer would come just too late.
func (r *rules) late(ctx context.Context, now time.Time, waited time.Duration) bool {
	if r.config.MaxWait > 0 && waited > r.config.MaxWait {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && waited > 0 && waited > deadline.Sub(now)
}

// admit returns nil for a check that is to be decided, else its answer, before anything of it was read: to turn a
// check away must cost less than to decide it.
func (s *Server) admit(ctx context.Context) (answer []byte) {
	r, now := s.rules.Load(), time.Now()
	waited := admission.Waited(ctx, now)
	defer func() {
		if p := recover(); p != nil { // a bug in observing
			answer = r.overloaded
		}
	}()
	if r.config.Waited != nil {
		r.config.Waited(waited)
	}
	if r.overloaded == nil || !r.late(ctx, now, waited) {
		return nil
	}
	r.config.Observe(ctx, lateDecision(), waited)
	return r.overloaded
}

// begin decides, unless no time is left for it. In shadow mode the request passes all the same, so its headers are known.
func (r *rules) begin(ctx *checkContext, p *profile, in *wire.Request, d *Decision) error {
	late, err := r.late(ctx, ctx.began, admission.Waited(ctx, ctx.began)), ctx.errAt(ctx.began)
	switch {
	case late:
		err = errLate
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", errDeadline, err)
	default:
		return p.safely(ctx, in, d)
	}
	d.Request.headers, _ = headersFrom(in) // what is wrong with them no longer matters
	return err
}

func lateDecision() *Decision { return &Decision{Err: errLate, Outcome: outcomeOf(errLate)} }

// prepare writes the answer that admit gives. There is none if a profile only watches: what it would deny must pass, and
// which profile a check is for is only known when it was read.
func (r *rules) prepare() {
	for _, p := range r.profiles {
		if p.shadow {
			return
		}
	}
	r.overloaded = r.fallback.deny(lateDecision())
}
