package config

import (
	"slices"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

func (c *checker) policy() {
	policy := c.config.GetPolicy()
	groups, err := c.routeGroups(policy.GetRouteGroups())
	if err != nil {
		c.file.Report("policy.route_groups", err.Error(), "")
		return
	}
	c.validateRoutes("policy.public_routes", policy.GetPublicRoutes(), groups)
	c.validateRoutes("policy.admin.routes", policy.GetAdmin().GetRoutes(), groups)
	for i, rule := range policy.GetRoles() {
		c.validateRoutes(yamlfile.Element("policy.roles", i)+".routes", rule.GetRoutes(), groups)
	}
	for i, rule := range policy.GetScopes() {
		c.validateRoutes(yamlfile.Element("policy.scopes", i)+".routes", rule.GetRoutes(), groups)
	}
	template := c.config.GetMapping().GetAutoRegister().GetTemplate()
	c.validateRoutes("mapping.auto_register.template.allowed_routes", template.GetAllowedRoutes(), groups)
	c.claimsRead()
}

// claimsRead refuses a policy that no caller can ever meet, because no issuer reads the claim it decides by.
func (c *checker) claimsRead() {
	policy := c.config.GetPolicy()
	c.needsClaim("policy.roles", "roles", len(policy.GetRoles()) > 0, (*configv1.Claims).GetRoles)
	c.needsClaim("policy.scopes", "scopes", len(policy.GetScopes()) > 0, (*configv1.Claims).GetScopes)
	c.needsClaim("policy.admin.scope", "scopes", policy.GetAdmin().GetScope() != "", (*configv1.Claims).GetScopes)
	c.needsClaim("policy.email_domains", "email", len(policy.GetEmailDomains()) > 0, (*configv1.Claims).GetEmail)
}

func (c *checker) needsClaim(path, claim string, configured bool, read func(*configv1.Claims) string) {
	reads := func(i *configv1.Issuer) bool { return read(i.GetClaims()) != "" }
	if configured && len(c.config.GetIssuers()) > 0 && !slices.ContainsFunc(c.config.GetIssuers(), reads) {
		c.file.Report(path, "is set, but no issuer reads the claim", "with claims."+claim+" at an issuer")
	}
}
