package token

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// validateURLs checks the two URLs that the operator names. Where JWKSURL is given, iss may be a name
// that is no URL at all (RFC 7519 section 4.1.1 StringOrURI; Google's "accounts.google.com").
func (i Issuer) validateURLs() error {
	if !usable(string(i.URL)) || len(i.URL) > maxIssuerURLBytes {
		return errors.New("issuer: required, at most 1024 bytes, without control characters")
	}
	if i.JWKSURL != "" {
		if _, err := safeURL(i.JWKSURL); err != nil {
			return fmt.Errorf("jwks_url: %w", err)
		}
		if !strings.Contains(string(i.URL), "://") {
			return nil
		}
	}
	issuer, err := safeURL(string(i.URL))
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	// OpenID Connect Discovery 1.0 section 2: an issuer has no query and no fragment.
	if issuer.RawQuery != "" || issuer.ForceQuery {
		return errors.New("issuer: must not have a query")
	}
	return nil
}

// safeURL parses a URL that keys may be fetched from: whoever can change the answer can sign tokens,
// so it is https, or http to this machine.
func safeURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Host == "" || u.Opaque != "":
		return nil, errors.New("not an absolute URL")
	case u.User != nil:
		return nil, errors.New("must not carry a user name or password")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return nil, errors.New("must not have a fragment")
	case !canBeHost(u.Hostname()):
		return nil, errors.New("must not be at an unspecified, link-local or multicast address")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, errors.New("must be https, or http on loopback")
}

// canBeHost refuses the literal addresses that no client would dial in the end, see canBeIssuer.
func canBeHost(host string) bool {
	address, err := netip.ParseAddr(host)
	return err != nil || canBeIssuer(address)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// discoveryURL is where the issuer publishes where its keys are (OpenID Connect Discovery 1.0 section 4.1).
func (i Issuer) discoveryURL() string {
	return strings.TrimSuffix(string(i.URL), "/") + "/.well-known/openid-configuration"
}
