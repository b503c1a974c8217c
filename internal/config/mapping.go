package config

import (
	"cmp"
	"slices"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/teams"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// Mapping is how the callers of one issuer are mapped.
type Mapping struct {
	// Claim is the claim path that is looked up; empty means that the issuer's callers are not mapped.
	Claim string
	// NoMatch is reject, auto_register or fallback_team_mapping; empty only if Claim is.
	NoMatch string
	// Mode is enforce or shadow.
	Mode string
}

// MappingOf returns the mapping of one issuer of the configuration: the profile's choices, else the issuer's own, else
// the common ones. A nil profile is none.
func MappingOf(c *configv1.Config, issuer *configv1.Issuer, profile *configv1.Profile) Mapping {
	override, own, common := profile.GetMapping(), issuer.GetMapping(), c.GetMapping()
	return Mapping{
		Claim:   cmp.Or(override.GetClaim(), own.GetClaim(), common.GetClaim()),
		NoMatch: cmp.Or(override.GetNoMatch(), own.GetNoMatch(), common.GetNoMatch()),
		Mode:    cmp.Or(override.GetNoMatchMode(), own.GetNoMatchMode(), common.GetNoMatchMode()),
	}
}

func (c *checker) mapping() {
	common := c.config.GetMapping()
	c.claimPath("mapping.claim", common.Claim)
	registers, claims := false, common.GetClaim() != ""
	for i, issuer := range c.config.GetIssuers() {
		m := MappingOf(c.config, issuer, nil)
		c.issuerMapping(yamlfile.Element("issuers", i)+".mapping", issuer.GetMapping(), issuer.GetClaims(), m)
		registers = registers || (m.Claim != "" && m.NoMatch == "auto_register")
		claims = claims || m.Claim != ""
	}
	if common.GetClaim() != "" && common.NoMatch == nil {
		c.missingNoMatch("mapping.no_match")
	}
	if common.NoMatch != nil && !claims {
		c.file.Report("mapping.no_match", "is set, but no claim is", "with mapping.claim, or with a claim at an issuer")
	}
	if c.file.Has("mapping.auto_register") && !registers && !profileRegisters(c.config) {
		c.file.Report("mapping.auto_register", "is set, but no issuer registers", "with no_match: auto_register")
	}
	c.template("mapping.auto_register.template", common.GetAutoRegister().GetTemplate())
	for i, scoped := range common.GetAutoRegister().GetTemplates() {
		c.template(yamlfile.Element("mapping.auto_register.templates", i)+".template", scoped.GetTemplate())
	}
}

func profileRegisters(c *configv1.Config) bool {
	return slices.ContainsFunc(c.GetProfiles(), func(p *configv1.Profile) bool { return p.GetMapping().GetNoMatch() == "auto_register" })
}

// teamless refuses a fallback to the team for callers who can have none: nothing would restrict them.
func (c *checker) teamless(path string, claims *configv1.Claims, policy *configv1.Policy, m Mapping) {
	hasTeams := claims.GetTeamId() != "" || claims.GetTeamIds() != "" || policy.GetTeams().GetDefaultTeamId() != ""
	if m.Claim != "" && m.NoMatch == "fallback_team_mapping" && !hasTeams {
		c.file.Report(path, "lets callers pass as their team, but they can have none",
			"with claims.team_id or claims.team_ids at the issuer, or with policy.teams.default_team_id")
	}
}

func (c *checker) issuerMapping(path string, own *configv1.IssuerMapping, claims *configv1.Claims, m Mapping) {
	if own.GetClaim() != "" && m.NoMatch == "" {
		c.missingNoMatch(path + ".no_match")
	}
	c.teamless(c.file.First(path+".no_match", "mapping.no_match"), claims, c.config.GetPolicy(), m)
	if own.NoMatch != nil && m.Claim == "" {
		c.file.Report(path+".no_match", "is set, but no claim is", "with a claim here, or with mapping.claim")
	}
}

func (c *checker) missingNoMatch(path string) {
	c.file.Report(path, "is missing: what happens to a caller without a mapping must be chosen", "")
}

// budgeted is a template of keys or of teams.
type budgeted interface {
	GetMaxBudget() string
	GetBudgetWindow() string
}

// template checks what the schema's pattern of an amount cannot say: how large it may be.
func (c *checker) template(path string, template budgeted) {
	if _, err := teams.ParseWindow(template.GetBudgetWindow()); err != nil {
		c.file.Refuse(path+".budget_window", "is not a window", "")
	}
	if template.GetMaxBudget() == "" {
		return
	}
	if _, err := resource.ParseAmount(template.GetMaxBudget()); err != nil {
		c.file.Refuse(path+".max_budget", "is not an amount", resource.AllowedAmount)
	}
}
