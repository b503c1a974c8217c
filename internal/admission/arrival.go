package admission

import (
	"context"
	"time"
)

// arrival is a context that remembers when the request came.
type arrival struct {
	context.Context
	at time.Time
}

type arrivalKey struct{}

func (a *arrival) Value(key any) any {
	if _, ours := key.(arrivalKey); ours {
		return a
	}
	return a.Context.Value(key)
}

// Arrive returns a context whose request has come now.
func Arrive(ctx context.Context) context.Context { return &arrival{ctx, time.Now()} }

// Waited returns for how long a request has waited, since it came, at an instant; 0 if nobody noted when it came.
func Waited(ctx context.Context, now time.Time) time.Duration {
	a, ok := ctx.Value(arrivalKey{}).(*arrival)
	if !ok {
		return 0
	}
	return now.Sub(a.at)
}
