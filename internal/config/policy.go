package config

import (
	"slices"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/pkg/teams"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// policies checks the common policy, whose route groups the registration templates use too, and that of each
// profile.
func (c *checker) policies() {
	groups := c.policy("policy", c.config.GetPolicy())
	register := c.config.GetMapping().GetAutoRegister()
	if groups != nil {
		c.validateRoutes("mapping.auto_register.template.allowed_routes", register.GetTemplate().GetAllowedRoutes(), groups)
		for i, scoped := range register.GetTemplates() {
			path := yamlfile.Element("mapping.auto_register.templates", i) + ".template.allowed_routes"
			c.validateRoutes(path, scoped.GetTemplate().GetAllowedRoutes(), groups)
		}
	}
	for i, profile := range c.config.GetProfiles() {
		if profile.GetPolicy() != nil {
			c.policy(yamlfile.Element("profiles", i)+".policy", profile.GetPolicy())
		}
	}
	for i, issuer := range c.config.GetIssuers() {
		c.rules(yamlfile.Element("issuers", i)+".rules", issuer.GetRules(), false)
	}
}

func (c *checker) policy(path string, policy *configv1.Policy) *teams.Routes {
	groups, err := c.routeGroups(path+".route_groups", policy.GetRouteGroups())
	if err != nil {
		c.file.Report(path+".route_groups", err.Error(), "")
		return nil
	}
	c.validateRoutes(path+".public_routes", policy.GetPublicRoutes(), groups)
	c.validateRoutes(path+".admin.routes", policy.GetAdmin().GetRoutes(), groups)
	for i, rule := range policy.GetRoles() {
		c.validateRoutes(yamlfile.Element(path+".roles", i)+".routes", rule.GetRoutes(), groups)
	}
	for i, rule := range policy.GetScopes() {
		c.validateRoutes(yamlfile.Element(path+".scopes", i)+".routes", rule.GetRoutes(), groups)
	}
	for i, team := range policy.GetTeams().GetStatic() {
		c.validateRoutes(yamlfile.Element(path+".teams.static", i)+".allowed_routes", team.GetAllowedRoutes(), groups)
	}
	c.rules(path+".rules", policy.GetRules(), false)
	c.rules(path+".teams.rules", policy.GetTeams().GetRules(), true)
	c.staticTeams(path, policy.GetTeams())
	if register := policy.GetTeams().GetAutoRegister(); register != nil {
		c.registeredTeams(path+".teams.auto_register", policy.GetTeams())
		c.validateRoutes(path+".teams.auto_register.template.allowed_routes", register.GetTemplate().GetAllowedRoutes(), groups)
	}
	c.claimsRead(path, policy)
	return groups
}

// rules compiles each rule, so that a mistake in one stops the start and not the requests.
func (c *checker) rules(path string, rules []*configv1.Rule, withTeam bool) {
	for i, rule := range rules {
		if rule.GetExpression() == "" {
			continue // the schema's rules say so
		}
		if err := teams.CheckExpression(rule.GetExpression(), withTeam); err != nil {
			c.file.Report(yamlfile.Element(path, i)+".expression", "does not compile: "+err.Error(), "a CEL expression that yields a bool")
		}
	}
}

func (c *checker) staticTeams(path string, policy *configv1.TeamPolicy) {
	if len(policy.GetStatic()) > 0 && c.config.GetStore().GetUrl() != "none" {
		c.file.Report(path+".teams.static", "is set, but there is a store", "with store.url: none; with a store, teams are resources: extauthz apply")
	}
	seen := make(map[string]bool)
	for i, team := range policy.GetStatic() {
		if team.Id != nil && seen[team.GetId()] {
			c.file.Refuse(yamlfile.Element(path+".teams.static", i)+".id", "is the id of another team", "each id once")
		}
		seen[team.GetId()] = true
	}
}

// registeredTeams refuses registrations of teams that cannot come about, or after which nobody could pass.
func (c *checker) registeredTeams(path string, policy *configv1.TeamPolicy) {
	if c.config.GetStore().GetUrl() == "none" {
		c.file.Report(path, "is set, but there is no store", "with a store; without one, teams are static")
	}
	if policy.GetRequireMember() {
		c.file.Report(path, "is set together with require_member, but a new team lists nobody", "one of the two")
	}
	c.needsClaim(path, "team_id", true, (*configv1.Claims).GetTeamId)
	c.template(path+".template", policy.GetAutoRegister().GetTemplate())
}

// claimsRead refuses a policy that no caller can ever meet, because no issuer reads the claim it decides by.
func (c *checker) claimsRead(path string, policy *configv1.Policy) {
	c.needsClaim(path+".roles", "roles", len(policy.GetRoles()) > 0, (*configv1.Claims).GetRoles)
	c.needsClaim(path+".scopes", "scopes", len(policy.GetScopes()) > 0, (*configv1.Claims).GetScopes)
	c.needsClaim(path+".admin.scope", "scopes", policy.GetAdmin().GetScope() != "", (*configv1.Claims).GetScopes)
	c.needsClaim(path+".email_domains", "email", len(policy.GetEmailDomains()) > 0, (*configv1.Claims).GetEmail)
}

func (c *checker) needsClaim(path, claim string, configured bool, read func(*configv1.Claims) string) {
	reads := func(i *configv1.Issuer) bool { return read(i.GetClaims()) != "" }
	if configured && len(c.config.GetIssuers()) > 0 && !slices.ContainsFunc(c.config.GetIssuers(), reads) {
		c.file.Report(path, "is set, but no issuer reads the claim", "with claims."+claim+" at an issuer")
	}
}
