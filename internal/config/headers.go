package config

import (
	"slices"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// use is one header name and the field that claims it.
type use struct{ path, name string }

// headers refuses a header name with two uses: an identity header is overwritten or removed on every request, and a
// credential header is stripped, so whoever else reads it would read the wrong thing. One name may carry
// both the selector and the model of a request only by mistake.
func (c *checker) headers() {
	identity := identityHeaders(c.config.GetHeaders())
	own := slices.Concat(identity, listed("credentials.headers", c.config.GetCredentials().GetHeaders()))
	c.distinct(slices.Concat(own, policyHeaders("policy", c.config.GetPolicy())))
	for i, profile := range c.config.GetProfiles() {
		c.distinct(slices.Concat(own, policyHeaders(yamlfile.Element("profiles", i)+".policy", profile.GetPolicy())))
	}
	// The key may stand where the credential stood, and nowhere else.
	c.distinct(append(identity, use{"key_header.name", c.config.GetKeyHeader().GetName()}))
}

func policyHeaders(path string, policy *configv1.Policy) []use {
	uses := listed(path+".model_headers", policy.GetModelHeaders())
	if name := policy.GetTeams().GetSelectorHeader(); name != "" {
		uses = append(uses, use{path + ".teams.selector_header", name})
	}
	return uses
}

func (c *checker) distinct(uses []use) {
	first := map[string]string{}
	for _, u := range uses {
		other, taken := first[u.name]
		if !taken {
			first[u.name] = u.path
			continue
		}
		c.sameHeader(u, other)
	}
}

// sameHeader reports the later of two uses, or the one that the file states if the other is a default.
func (c *checker) sameHeader(u use, other string) {
	path := c.file.First(u.path, other)
	if path == other {
		other = u.path
	}
	c.file.Report(path, "is the same header as "+other, "a header name for each use")
}

func identityHeaders(h *configv1.IdentityHeaders) []use {
	return []use{
		{"headers.key_id", h.GetKeyId()},
		{"headers.key_alias", h.GetKeyAlias()},
		{"headers.team_id", h.GetTeamId()},
		{"headers.user_id", h.GetUserId()},
		{"headers.user_email", h.GetUserEmail()},
		{"headers.org_id", h.GetOrgId()},
		{"headers.source", h.GetSource()},
		{"headers.decision_id", h.GetDecisionId()},
	}
}

func listed(path string, names []string) []use {
	uses := make([]use, len(names))
	for i, name := range names {
		uses[i] = use{yamlfile.Element(path, i), name}
	}
	return uses
}
