// Package trace records how one decision came about, for `extauthz explain` and for shadow mode.
//
// A record travels in the context. Without one, recording is a no-op, so that the code that decides is
// the code that explains.
package trace

import (
	"context"
	"fmt"
)

// Step is one thing that the decision looked at.
type Step struct {
	// Name is the step of the decision: request, credential, token, policy, team, mapping, key, answer.
	Name string `json:"step"`
	// Detail says what was found, and what decided. It may hold claim values: it is for the operator.
	Detail string `json:"detail"`
}

// Record is what was recorded of one decision. It is not safe for concurrent use.
type Record struct {
	// Steps are recorded only if it is not nil to begin with: most decisions are explained to nobody.
	Steps []Step
	// Shadowed are the reasons for which the request would have been denied, had their rule not been in
	// shadow mode.
	Shadowed []error
	// Stale is whether a row was used that the store could not give anew.
	Stale bool
}

// Key is the key of a context's record, a *Record, for contexts that carry one themselves.
type Key struct{}

// With returns a context that records into r.
func With(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, Key{}, r)
}

// From returns the context's record, nil if nobody records. All methods of a nil Record do nothing.
func From(ctx context.Context) *Record {
	r, _ := ctx.Value(Key{}).(*Record)
	return r
}

// Explaining reports whether steps are recorded.
func (r *Record) Explaining() bool { return r != nil && r.Steps != nil }

// Add records a step. Its arguments are texts, not of any type, because those would be put on the heap on every
// request, recorded or not.
func (r *Record) Add(step, format string, args ...string) {
	if !r.Explaining() {
		return
	}
	values := make([]any, len(args))
	for n, arg := range args {
		values[n] = arg
	}
	r.Steps = append(r.Steps, Step{step, fmt.Sprintf(format, values...)})
}

// Shadow records a denial that did not happen.
func (r *Record) Shadow(err error) {
	if r != nil {
		r.Shadowed = append(r.Shadowed, err)
		r.Add("shadow", "would have been denied: %s", err.Error())
	}
}

// MarkStale records that a row was used that the store could not give anew.
func (r *Record) MarkStale() {
	if r != nil {
		r.Stale = true
	}
}
