package config

import (
	"github.com/extauthz/extauthz/internal/config/yamlfile"
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

// sealed refuses to promise the upstream keys that nobody can open.
func (c *checker) sealed(path, credential string) {
	if credential == "virtual_key" && c.config.GetSealing() == nil {
		c.file.Report(path, "is virtual_key, but keys are not sealed", "with sealing.keyset_file")
	}
}
