package token

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Bounds of an [Issuer]'s settings. A value outside them is an operator's mistake, so it stops the start.
const (
	maxLeeway         = 5 * time.Minute
	minRefresh        = time.Second
	maxIssuerURLBytes = 1024
)

// Issuer configures one token issuer. The zero value of every optional field is a safe default.
type Issuer struct {
	// URL is compared byte for byte with the iss claim. Required. Without JWKSURL it must be an https
	// URL (or http on loopback), without query and fragment, because the keys are found through it.
	URL IssuerURL
	// Audiences are the values of aud that this service answers to; one of them must be in the token,
	// byte for byte. Required: without them every token of the issuer would do (RFC 8725 section 3.9).
	Audiences []string
	// JWKSURL is where the issuer's keys are: https, or http on loopback. Empty means OIDC discovery:
	// URL without its trailing slash + "/.well-known/openid-configuration".
	JWKSURL string
	// RootCAs verifies the issuer's HTTPS certificate. nil means the system's roots.
	RootCAs *x509.CertPool
	// CAFile is a PEM file of certificates to use instead of the system's roots. Empty means none; it
	// cannot be combined with RootCAs. It is read once, by [NewVerifier].
	CAFile string
	// Algorithms are the accepted values of alg: asymmetric ones only. Empty means RS256, ES256, EdDSA.
	Algorithms []string
	// Leeway is the clock difference forgiven in exp, nbf and iat. Zero means 30 s; the most is 5 min.
	Leeway time.Duration
	// MaxLifetime is the longest accepted time between iat (or now, without iat) and exp. Zero means 24 h.
	MaxLifetime time.Duration
	// Types are the accepted values of typ, in any letter case, with or without "application/"
	// (RFC 7515 section 4.1.9); "" is an absent typ. Empty means "", "JWT" and "at+jwt" (RFC 9068).
	Types []string
	// RefreshInterval is how often [Verifier.Run] fetches the keys anew, or up to a tenth sooner. Zero means
	// 5 min; the least is 1 s. It is how long a key that the issuer withdrew may still be accepted, unless the
	// fetch fails: then it is MaxAge.
	RefreshInterval time.Duration
	// MaxAge is how long the last good keys stay in use while they cannot be fetched. Zero means 24 h.
	// It must be longer than RefreshInterval.
	MaxAge time.Duration
}

// withDefaults returns a copy that shares no slice with the caller's and has every optional field set.
func (i Issuer) withDefaults() Issuer {
	i.Audiences = slices.Clone(i.Audiences)
	i.Algorithms = listOr(i.Algorithms, "RS256", "ES256", "EdDSA")
	i.Types = listOr(i.Types, "", "JWT", "at+jwt")
	i.Leeway = durationOr(i.Leeway, 30*time.Second)
	i.MaxLifetime = durationOr(i.MaxLifetime, 24*time.Hour)
	i.RefreshInterval = durationOr(i.RefreshInterval, 5*time.Minute)
	i.MaxAge = durationOr(i.MaxAge, 24*time.Hour)
	return i
}

func listOr(list []string, fallback ...string) []string {
	if len(list) == 0 {
		return fallback
	}
	return slices.Clone(list)
}

func durationOr(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// validate says everything that is wrong with the issuer, defaults filled in.
func (i Issuer) validate() error {
	return errors.Join(
		i.validateURLs(),
		i.validateAudiences(),
		i.validateAlgorithms(),
		i.validateDurations(),
		i.validateRoots(),
	)
}

func (i Issuer) validateAudiences() error {
	if len(i.Audiences) == 0 {
		return errors.New("audiences: at least one is required")
	}
	for _, audience := range i.Audiences {
		if !usable(audience) {
			return fmt.Errorf("audiences: %q is empty, too long or has control characters", audience)
		}
	}
	return nil
}

func (i Issuer) validateAlgorithms() error {
	supported := algorithmNames()
	for _, alg := range i.Algorithms {
		if !slices.Contains(supported, alg) {
			return fmt.Errorf("algorithms: %q is not supported; allowed are the asymmetric %v", alg, supported)
		}
	}
	return nil
}

func (i Issuer) validateDurations() error {
	switch {
	case i.Leeway < 0 || i.Leeway > maxLeeway:
		return fmt.Errorf("leeway: %v is not between 0 and %v", i.Leeway, maxLeeway)
	case i.MaxLifetime < 0:
		return fmt.Errorf("max_lifetime: %v is negative", i.MaxLifetime)
	case i.RefreshInterval < minRefresh:
		return fmt.Errorf("refresh_interval: %v is less than %v", i.RefreshInterval, minRefresh)
	case i.MaxAge <= i.RefreshInterval:
		return fmt.Errorf("max_age: %v is not longer than the refresh interval, %v", i.MaxAge, i.RefreshInterval)
	}
	return nil
}

func (i Issuer) validateRoots() error {
	if i.RootCAs != nil && i.CAFile != "" {
		return errors.New("ca_file: cannot be combined with RootCAs")
	}
	return nil
}

// roots returns the certificates that the issuer's server is verified with; nil means the system's.
func (i Issuer) roots() (*x509.CertPool, error) {
	if i.CAFile == "" {
		return i.RootCAs, nil
	}
	pem, err := os.ReadFile(i.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", i.CAFile)
	}
	return pool, nil
}
