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
	if key == (arrivalKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// Arrive returns a context whose request has come now.
func Arrive(ctx context.Context) context.Context { return &arrival{ctx, time.Now()} }

// Waited returns for how long a request has waited since it came; 0 if nobody noted when.
func Waited(ctx context.Context) time.Duration {
	a, ok := ctx.Value(arrivalKey{}).(*arrival)
	if !ok {
		return 0
	}
	return time.Since(a.at)
}
