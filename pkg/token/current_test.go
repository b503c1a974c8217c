package token_test

import (
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/token"
)

// TestCurrentIsVerify compares what is said of kept claims with verifying their token anew, at each instant at
// which a date could begin or cease to pass.
func TestCurrentIsVerify(t *testing.T) {
	const leeway, lifetime = 30 * time.Second, 10 * time.Minute
	for name, dates := range map[string]map[string]any{
		"exp and iat":     {"exp": 300, "iat": 0},
		"exp alone":       {"exp": 300, "iat": localissuer.Absent},
		"nbf after iat":   {"exp": 300, "iat": -60, "nbf": 10},
		"nbf before iat":  {"exp": 300, "iat": 20, "nbf": -100},
		"nbf, no iat":     {"exp": 300, "iat": localissuer.Absent, "nbf": 10},
		"fractions":       {"exp": 300.25, "iat": 0.5},
		"all the time":    {"exp": 600, "iat": 0},
		"long, iat early": {"exp": 300, "iat": -300},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, func(i *token.Issuer) {
				i.Leeway, i.MaxLifetime, i.MaxAge = leeway, lifetime, 24*time.Hour
			})
			origin := float64(r.Now().Unix())
			claims := map[string]any{}
			instants := []time.Duration{0}
			for claim, at := range dates {
				seconds, isDate := at.(float64)
				if n, isInt := at.(int); isInt {
					seconds, isDate = float64(n), true
				}
				if !isDate {
					claims[claim] = at
					continue
				}
				claims[claim] = origin + seconds
				offset := time.Duration(seconds * float64(time.Second))
				instants = append(instants, offset, offset+leeway, offset-leeway, offset-lifetime)
			}
			raw := r.Mint(claims)
			kept, err := r.verifier.Verify(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			began, seen := r.Now(), map[bool]int{}
			for _, instant := range instants {
				for _, near := range []time.Duration{-1, 0, 1} {
					r.Advance(began.Add(instant + near).Sub(r.Now()))
					_, err := r.verifier.Verify(t.Context(), raw)
					seen[err == nil]++
					if kept.Current() != (err == nil) {
						t.Errorf("at %v%+d: Current is %t, Verify says %v", instant, near, kept.Current(), err)
					}
				}
			}
			if seen[true] == 0 || seen[false] == 0 {
				t.Errorf("the instants show one side only: %v", seen)
			}
		})
	}
}

func TestCurrentEndsWithTheKeys(t *testing.T) {
	verified := func(r *rig) token.Claims {
		t.Helper()
		claims, err := r.verifier.Verify(t.Context(), r.Mint(nil))
		if err != nil || !claims.Current() {
			t.Fatalf("verified: %v, current: %t", err, claims.Current())
		}
		return claims
	}
	t.Run("withdrawn", func(t *testing.T) {
		r := newRig(t)
		claims := verified(r)
		r.Rotate()
		r.wantVerdict(t, r.Mint(nil), "") // fetches the new set
		if claims.Current() {
			t.Error("a token of a withdrawn key is current")
		}
	})
	t.Run("too old", func(t *testing.T) {
		r := newRigWith(t, func(i *token.Issuer) { i.RefreshInterval, i.MaxAge = time.Second, 2*time.Minute })
		claims := verified(r)
		r.Down()
		r.Advance(2*time.Minute + 1)
		if claims.Current() {
			t.Error("a token is current though its issuer's keys are too old to be used")
		}
	})
	if (token.Claims{Issuer: "https://idp", Expiry: time.Now().Add(time.Hour)}).Current() {
		t.Error("claims that nobody verified are current")
	}
}
