package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// This file turns the configuration's messages into what the packages take. It decides nothing.

// checkSettings builds everything that can be built without a network or a store.
func checkSettings(c *configv1.Config) error {
	if _, err := token.NewVerifier(issuersOf(c), token.Options{}); err != nil {
		return err
	}
	if _, err := claimsOf(c); err != nil {
		return err
	}
	for _, variant := range variantsOf(c) {
		policy, err := policyOf(c, variant.policy)
		if err != nil {
			return err
		}
		if _, err := teams.NewPolicy(policy, nil, nil); err != nil {
			return err
		}
		if _, err := mappingOf(c, variant.profile); err != nil {
			return err
		}
	}
	return nil
}

// variant is one way to decide: that of the whole file, whose profile is nil, or that of a profile.
type variant struct {
	name       string
	profile    *configv1.Profile
	policy     *configv1.Policy
	credential string
	shadow     bool
}

func variantsOf(c *configv1.Config) []variant {
	variants := []variant{{policy: c.GetPolicy(), credential: c.GetUpstreamCredential(), shadow: c.GetMode() == shadow}}
	for _, p := range c.GetProfiles() {
		v := variant{
			name: p.GetName(), profile: p, policy: p.GetPolicy(),
			credential: cmp.Or(p.GetUpstreamCredential(), c.GetUpstreamCredential()),
			shadow:     cmp.Or(p.GetMode(), c.GetMode()) == shadow,
		}
		if v.policy == nil {
			v.policy = c.GetPolicy()
		}
		variants = append(variants, v)
	}
	return variants
}

// shadow is the mode that records a denial instead of making it.
const shadow = "shadow"

func issuersOf(c *configv1.Config) []token.Issuer {
	var issuers []token.Issuer
	for _, i := range c.GetIssuers() {
		types := slices.Clone(i.GetTypes())
		for n, t := range types {
			if t == "absent" {
				types[n] = ""
			}
		}
		issuers = append(issuers, token.Issuer{
			URL: token.IssuerURL(i.GetIssuer()), Audiences: i.GetAudiences(), JWKSURL: i.GetJwksUrl(), CAFile: i.GetCaFile(),
			Algorithms: i.GetAlgorithms(), Leeway: leewayOf(i), MaxLifetime: i.GetMaxLifetime().AsDuration(), Types: types,
			RefreshInterval: i.GetJwksRefresh().AsDuration(), MaxAge: i.GetJwksMaxAge().AsDuration(),
		})
	}
	return issuers
}

// leewayOf keeps a configured leeway of zero apart from an unset one.
func leewayOf(i *configv1.Issuer) time.Duration {
	return max(i.GetLeeway().AsDuration(), time.Nanosecond)
}

func policyOf(c *configv1.Config, p *configv1.Policy) (teams.Config, error) {
	config := teams.Config{
		PublicRoutes: p.GetPublicRoutes(),
		AdminScope:   p.GetAdmin().GetScope(),
		AdminRoutes:  p.GetAdmin().GetRoutes(),
		EmailDomains: p.GetEmailDomains(),
		DefaultTeam:  teams.TeamID(p.GetTeams().GetDefaultTeamId()),
		RouteGroups:  make(map[string][]string),

		Rules:         rulesOf(p.GetRules()),
		IssuerRules:   make(map[token.IssuerURL][]teams.Rule),
		TeamRules:     rulesOf(p.GetTeams().GetRules()),
		ByAlias:       p.GetTeams().GetByAlias(),
		RequireMember: p.GetTeams().GetRequireMember(),
	}
	for _, i := range c.GetIssuers() {
		config.IssuerRules[token.IssuerURL(i.GetIssuer())] = rulesOf(i.GetRules())
	}
	for _, r := range p.GetRoles() {
		config.Roles = append(config.Roles, teams.Grant{Name: r.GetRole(), Routes: r.GetRoutes(), Models: r.GetModels()})
	}
	for _, s := range p.GetScopes() {
		config.Scopes = append(config.Scopes, teams.Grant{Name: s.GetScope(), Routes: s.GetRoutes(), Models: s.GetModels()})
	}
	for _, g := range p.GetRouteGroups() {
		config.RouteGroups[g.GetName()] = g.GetRoutes()
	}
	var err error
	config.AutoRegister, err = registeredTeamsOf(p.GetTeams().GetAutoRegister())
	return config, err
}

// registeredTeamsOf are the teams that tokens make; nil if they make none.
func registeredTeamsOf(register *configv1.TeamAutoRegister) (*teams.AutoRegister, error) {
	if register == nil {
		return nil, nil
	}
	t := register.GetTemplate()
	budget, window, err := budgetOf(t)
	if err != nil {
		return nil, fmt.Errorf("policy.teams.auto_register.template: %w", err)
	}
	return &teams.AutoRegister{
		MaxTeams: int(register.GetMaxTeams()), MaxPerMinute: int(register.GetMaxPerMinute()),
		Template: teams.Template{
			OrganizationID: teams.OrganizationID(t.GetOrganizationId()), Models: t.GetModels(), AllowedRoutes: t.GetAllowedRoutes(),
			MaxBudget: budget, BudgetWindow: window, Limits: teams.Limits{RPM: t.RpmLimit, TPM: t.TpmLimit},
		},
	}, nil
}

// budgeted is a template of keys or of teams.
type budgeted interface {
	GetMaxBudget() string
	GetBudgetWindow() string
}

// budgetOf takes an empty text for an amount that is not stated; the schema's rules refuse one that is stated.
func budgetOf(t budgeted) (*teams.Micros, teams.Window, error) {
	window, err := teams.ParseWindow(t.GetBudgetWindow())
	if err != nil || t.GetMaxBudget() == "" {
		return nil, window, err
	}
	budget, err := resource.ParseAmount(t.GetMaxBudget())
	return &budget, window, err
}

func rulesOf(list []*configv1.Rule) []teams.Rule {
	rules := make([]teams.Rule, 0, len(list))
	for _, r := range list {
		rules = append(rules, teams.Rule{
			Name: r.GetName(), Expression: r.GetExpression(), Message: r.GetMessage(), Shadow: r.GetMode() == shadow,
		})
	}
	return rules
}

// staticTeamsOf are the teams of a service without a store; nil if there are none.
func staticTeamsOf(p *configv1.Policy) (teams.Directory, error) {
	if len(p.GetTeams().GetStatic()) == 0 {
		return nil, nil
	}
	var list []*teams.Team
	for _, t := range p.GetTeams().GetStatic() {
		list = append(list, &teams.Team{
			ID: teams.TeamID(t.GetId()), Alias: t.GetAlias(), OrganizationID: teams.OrganizationID(t.GetOrganizationId()),
			Models: t.GetModels(), AllowedRoutes: t.GetAllowedRoutes(), Blocked: t.GetBlocked(),
			Limits: teams.Limits{RPM: t.RpmLimit, TPM: t.TpmLimit},
		})
	}
	return teams.NewStatic(list)
}

func claimsOf(c *configv1.Config) (map[token.IssuerURL]teams.ClaimPaths, error) {
	paths := make(map[token.IssuerURL]teams.ClaimPaths)
	for _, i := range c.GetIssuers() {
		var p teams.ClaimPaths
		claims := i.GetClaims()
		for _, field := range []struct {
			text string
			path *token.Path
		}{
			{claims.GetUserId(), &p.UserID}, {claims.GetEmail(), &p.Email}, {claims.GetTeamId(), &p.TeamID},
			{claims.GetTeamIds(), &p.TeamIDs}, {claims.GetOrgId(), &p.OrganizationID},
			{claims.GetRoles(), &p.Roles}, {claims.GetScopes(), &p.Scopes},
		} {
			if field.text == "" {
				continue
			}
			var err error
			if *field.path, err = token.ParsePath(field.text); err != nil {
				return nil, err
			}
		}
		paths[token.IssuerURL(i.GetIssuer())] = p
	}
	return paths, nil
}

func mappingOf(c *configv1.Config, profile *configv1.Profile) (mapping.Config, error) {
	register := c.GetMapping().GetAutoRegister()
	templates, err := templatesOf(register)
	if err != nil {
		return mapping.Config{}, err
	}
	m := mapping.Config{
		Rules: make(map[token.IssuerURL]mapping.Rule), Templates: templates,
		MaxKeysPerTeam:         int(register.GetMaxKeysPerTeam()),
		RegistrationsPerMinute: int(register.GetMaxPerMinute()),
	}
	for _, i := range c.GetIssuers() {
		rule := config.MappingOf(c, i, profile)
		if rule.Claim == "" {
			continue
		}
		claim, err := token.ParsePath(rule.Claim)
		if err != nil {
			return mapping.Config{}, err
		}
		m.Rules[token.IssuerURL(i.GetIssuer())] = mapping.Rule{
			Claim: claim, NoMatch: mapping.NoMatch(rule.NoMatch), Shadow: rule.Mode == shadow,
		}
	}
	return m, nil
}

func templatesOf(register *configv1.AutoRegister) (map[mapping.Scope]mapping.Template, error) {
	common, err := templateOf(register.GetTemplate())
	if err != nil {
		return nil, err
	}
	templates := map[mapping.Scope]mapping.Template{{}: common}
	for _, scoped := range register.GetTemplates() {
		scope := mapping.Scope{Issuer: token.IssuerURL(scoped.GetIssuer()), Team: teams.TeamID(scoped.GetTeamId())}
		if templates[scope], err = templateOf(scoped.GetTemplate()); err != nil {
			return nil, err
		}
	}
	return templates, nil
}

func templateOf(t *configv1.KeyTemplate) (mapping.Template, error) {
	budget, window, err := budgetOf(t)
	if err != nil {
		return mapping.Template{}, fmt.Errorf("mapping.auto_register.template: %w", err)
	}
	return mapping.Template{
		Models: t.GetModels(), AllowedRoutes: t.GetAllowedRoutes(), Lifetime: t.GetExpiresAfter().AsDuration(),
		Limits: teams.Limits{RPM: t.RpmLimit, TPM: t.TpmLimit}, MaxBudget: budget, BudgetWindow: window, IdleTimeout: t.GetIdleTimeout().AsDuration(),
	}, nil
}

func responseOf(c *configv1.Config, credential string) authz.ResponseConfig {
	h := c.GetHeaders()
	response := authz.ResponseConfig{
		Headers: authz.HeaderNames{
			KeyID: h.GetKeyId(), KeyAlias: h.GetKeyAlias(), TeamID: h.GetTeamId(), UserID: h.GetUserId(),
			UserEmail: h.GetUserEmail(), OrganizationID: h.GetOrgId(), Source: h.GetSource(), DecisionID: h.GetDecisionId(),
		},
		KeepCredential: credential == "keep",
		OutageAsError:  c.GetOutageResponse() == "error",
		RetryAfter:     retryAfterSeconds,
	}
	if credential == "virtual_key" {
		response.KeyHeader, response.KeyPrefix = c.GetKeyHeader().GetName(), c.GetKeyHeader().GetPrefix()
	}
	return response
}

// retryAfterSeconds is what a client is told to wait after an outage: about as long as a restart takes.
const retryAfterSeconds = 2
