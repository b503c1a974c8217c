package telemetry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/extauthz/extauthz/pkg/authz"
)

// DecisionLog writes one line a decision: every denial, held back by shadow mode or not, and a sample of the
// allows. Of checks that were turned away because of overload there is one line a second: writing them all
// would cost what turning them away has saved.
type DecisionLog struct {
	Logger *slog.Logger
	// AllowSampleRate is the share of allows that are logged, from 0 (none) to 1 (all).
	AllowSampleRate float64

	overloaded atomic.Int64 // the second of the last line of an overload
}

// maxLogged bounds what a client can write into one field of a line.
const maxLogged = 256

// Decided writes the line of a decision. The fields are an allow-list: the key is named by its alias,
// the user not at all.
func (l *DecisionLog) Decided(ctx context.Context, d *authz.Decision, elapsed time.Duration) {
	if d.Allowed() && d.Shadowed == "" && !l.sampled() {
		return
	}
	if d.Outcome.Reason == authz.ReasonOverloaded && !l.overloadIsDue(time.Now().Unix()) {
		return
	}
	attributes := append(make([]slog.Attr, 0, 16),
		slog.String("decision", verdictOf(d)),
		slog.String("decision_id", d.ID),
		slog.String("method", cut(d.Request.Method)),
		slog.String("path", cut(d.Request.Path)),
		slog.Int64("duration_us", elapsed.Microseconds()),
	)
	add := func(name, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(name, cut(value)))
		}
	}
	add("source", string(d.Source))
	add("reason", string(d.Outcome.Reason))
	add("shadow_reason", string(d.Shadowed))
	if d.Identity != nil {
		add("issuer", string(d.Identity.Issuer))
	}
	add("team", string(d.Member.TeamID))
	add("org", string(d.Member.OrganizationID))
	add("model", d.Request.Model.Name)
	if d.Key != nil {
		add("key", d.Key.Alias)
	}
	if d.Stale {
		attributes = append(attributes, slog.Bool("stale", true))
	}
	if d.Err == nil {
		l.Logger.LogAttrs(ctx, slog.LevelInfo, "decision", attributes...)
		return
	}
	attributes = append(attributes, slog.Int("status", int(d.Outcome.Status)))
	add("error", d.Err.Error())
	level := slog.LevelWarn
	if d.Outcome.Status >= 500 {
		level = slog.LevelError
	}
	// Past the logger's level: every denial is logged.
	record := slog.NewRecord(time.Now(), level, "decision", 0)
	record.AddAttrs(attributes...)
	_ = l.Logger.Handler().Handle(ctx, record) // a log that cannot be written stops no request
}

func (l *DecisionLog) sampled() bool {
	return l.AllowSampleRate >= 1 || rand.Float64() < l.AllowSampleRate //nolint:gosec // a sample, not a secret
}

func (l *DecisionLog) overloadIsDue(second int64) bool {
	last := l.overloaded.Load()
	return second != last && l.overloaded.CompareAndSwap(last, second)
}

func cut(text string) string {
	return text[:min(len(text), maxLogged)]
}
