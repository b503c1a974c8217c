package config

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

func (c *checker) issuers() {
	seen := map[string]int{}
	for i, issuer := range c.config.GetIssuers() {
		path := yamlfile.Element("issuers", i)
		if first, ok := seen[issuer.GetIssuer()]; ok && issuer.Issuer != nil {
			c.file.Refuse(path+".issuer", "is already the issuer of "+yamlfile.Element("issuers", first), "each issuer once")
		}
		seen[issuer.GetIssuer()] = i
		c.issuer(path, issuer)
	}
}

func (c *checker) issuer(path string, issuer *configv1.Issuer) {
	c.safeURL(path+".issuer", issuer.Issuer, false)
	c.safeURL(path+".jwks_url", issuer.JwksUrl, true)
	if issuer.GetJwksMaxAge().AsDuration() <= issuer.GetJwksRefresh().AsDuration() {
		c.file.Report(c.file.First(path+".jwks_max_age", path+".jwks_refresh"),
			"jwks_max_age must be longer than jwks_refresh", "keys that live until they are fetched again")
	}
	c.claims(path+".claims", issuer.GetClaims())
	c.claimPath(path+".mapping.claim", issuer.GetMapping().Claim)
}

// algorithm explains the two refusals that people ask about; the schema refuses the rest.
func (c *checker) algorithm(path, algorithm string) {
	switch strings.ToUpper(algorithm) {
	case "HS256", "HS384", "HS512":
		c.file.Refuse(path, "is refused: whoever can check its signatures can also forge them", "an algorithm with a public key")
	case "NONE":
		c.file.Refuse(path, "is refused: anybody can write a token without a signature", "an algorithm with a public key")
	}
}

func (c *checker) claims(path string, claims *configv1.Claims) {
	c.claimPath(path+".user_id", claims.UserId)
	c.claimPath(path+".email", claims.Email)
	c.claimPath(path+".team_id", claims.TeamId)
	c.claimPath(path+".team_ids", claims.TeamIds)
	c.claimPath(path+".org_id", claims.OrgId)
	c.claimPath(path+".roles", claims.Roles)
	c.claimPath(path+".scopes", claims.Scopes)
}

func (c *checker) claimPath(path string, claim *string) {
	if claim == nil {
		return
	}
	if _, err := token.ParsePath(*claim); err != nil {
		c.file.Refuse(path, "is not a claim path", "")
	}
}

// safeURL reports a URL in whose place somebody on the network could put another answer. It does not repeat the URL, which
// may hold a password.
func (c *checker) safeURL(path string, text *string, query bool) {
	if text == nil {
		return
	}
	if reason := urlFault(*text, query); reason != "" {
		c.file.Report(path, reason, "")
	}
}

func urlFault(text string, query bool) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || !isPort(u.Port()):
		return "is not a URL"
	case u.User != nil:
		return "has a user in it"
	case strings.Contains(text, "#"):
		return "has a fragment"
	case strings.Contains(text, "?") && !query:
		return "has a query"
	case isNobody(u.Hostname()):
		return "is at an unspecified, link-local or multicast address"
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "is http, but not on a loopback host"
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not https"
	}
	return ""
}

func isPort(text string) bool {
	if text == "" {
		return true
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// isNobody finds addresses that pkg/token never connects to; cloud metadata services are on the link.
func isNobody(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && (address.IsUnspecified() || address.IsLinkLocalUnicast() || address.IsMulticast())
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" && (address == netip.IPv6Loopback() || (address.Is4() && address.IsLoopback()))
}
