package token_test

import (
	"context"
	"errors"
	"testing"

	"github.com/extauthz/extauthz/pkg/token"
)

// Whoever stands around the check of a signature can refuse it, and not forgo it.
func TestAroundTheSignature(t *testing.T) {
	r, full := newRig(t), errors.New("no place")
	for name, c := range map[string]struct {
		around func(context.Context, func() error) error
		want   error
	}{
		"made":               {func(_ context.Context, check func() error) error { return check() }, nil},
		"refused":            {func(context.Context, func() error) error { return full }, full},
		"made, then refused": {func(_ context.Context, check func() error) error { _ = check(); return full }, full},
		"forgotten":          {func(context.Context, func() error) error { return nil }, token.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := token.NewVerifier([]token.Issuer{{URL: token.IssuerURL(r.URL()), Audiences: []string{"extauthz"}, JWKSURL: r.JWKSURL()}},
				token.Options{Now: r.Now, Around: c.around})
			if err != nil {
				t.Fatal(err)
			}
			claims, err := v.Verify(t.Context(), r.Mint(map[string]any{"aud": "extauthz"}))
			if !errors.Is(err, c.want) || (claims.Issuer != "") != (c.want == nil) {
				t.Errorf("%v, %+v; want %v", err, claims, c.want)
			}
		})
	}
}
