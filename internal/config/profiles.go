package config

import (
	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// profiles checks that each is named once, and maps callers in a way that can be.
func (c *checker) profiles() {
	seen := make(map[string]bool)
	for i, profile := range c.config.GetProfiles() {
		path := yamlfile.Element("profiles", i)
		if profile.Name != nil && seen[profile.GetName()] {
			c.file.Refuse(path+".name", "is the name of another profile", "each name once")
		}
		seen[profile.GetName()] = true
		c.sealed(path+".upstream_credential", profile.GetUpstreamCredential())
		c.profileTeams(path, profile)
		own := profile.GetMapping()
		if own == nil {
			continue
		}
		c.claimPath(path+".mapping.claim", own.Claim)
		for _, issuer := range c.config.GetIssuers() {
			m := MappingOf(c.config, issuer, profile)
			if own.GetClaim() != "" && m.NoMatch == "" {
				c.missingNoMatch(path + ".mapping.no_match")
			}
			if own.GetNoMatch() != "" && m.Claim == "" {
				c.file.Report(path+".mapping.no_match", "is set, but no claim is", "with a claim here, or with mapping.claim")
			}
		}
	}
	c.sealed("upstream_credential", c.config.GetUpstreamCredential())
}

// profileTeams checks what a profile changes of the no-match policy or of the teams that it falls back to.
func (c *checker) profileTeams(path string, profile *configv1.Profile) {
	policy := profile.GetPolicy()
	switch {
	case policy == nil && profile.GetMapping() == nil:
		return
	case policy == nil:
		policy = c.config.GetPolicy()
	}
	place := c.file.First(path+".mapping.no_match", path+".policy")
	for _, issuer := range c.config.GetIssuers() {
		c.teamless(place, issuer.GetClaims(), policy, MappingOf(c.config, issuer, profile))
	}
}

// sealed refuses to promise the upstream keys that nobody can open.
func (c *checker) sealed(path, credential string) {
	if credential == "virtual_key" && c.config.GetSealing() == nil {
		c.file.Report(path, "is virtual_key, but keys are not sealed", "with sealing.keyset_file")
	}
}
