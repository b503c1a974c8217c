package main

import (
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
	if _, err := teams.NewPolicy(policyOf(c.GetPolicy()), nil); err != nil {
		return err
	}
	if _, err := claimsOf(c); err != nil {
		return err
	}
	_, err := mappingOf(c)
	return err
}

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

func policyOf(p *configv1.Policy) teams.Config {
	config := teams.Config{
		PublicRoutes: p.GetPublicRoutes(),
		AdminScope:   p.GetAdmin().GetScope(),
		AdminRoutes:  p.GetAdmin().GetRoutes(),
		EmailDomains: p.GetEmailDomains(),
		DefaultTeam:  teams.TeamID(p.GetTeams().GetDefaultTeamId()),
		RouteGroups:  make(map[string][]string),
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
	return config
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

func mappingOf(c *configv1.Config) (mapping.Config, error) {
	register := c.GetMapping().GetAutoRegister()
	template, err := templateOf(register.GetTemplate())
	if err != nil {
		return mapping.Config{}, err
	}
	m := mapping.Config{
		Rules: make(map[token.IssuerURL]mapping.Rule), Template: template,
		MaxKeysPerTeam:         int(register.GetMaxKeysPerTeam()),
		RegistrationsPerMinute: int(register.GetMaxPerMinute()),
	}
	for _, i := range c.GetIssuers() {
		rule := config.MappingOf(c, i)
		if rule.Claim == "" {
			continue
		}
		claim, err := token.ParsePath(rule.Claim)
		if err != nil {
			return mapping.Config{}, err
		}
		m.Rules[token.IssuerURL(i.GetIssuer())] = mapping.Rule{Claim: claim, NoMatch: mapping.NoMatch(rule.NoMatch)}
	}
	return m, nil
}

func templateOf(t *configv1.KeyTemplate) (mapping.Template, error) {
	template := mapping.Template{
		Models: t.GetModels(), AllowedRoutes: t.GetAllowedRoutes(), Lifetime: t.GetExpiresAfter().AsDuration(),
		Limits: teams.Limits{RPM: t.RpmLimit, TPM: t.TpmLimit},
	}
	if t.MaxBudget != nil {
		budget, err := resource.ParseAmount(t.GetMaxBudget())
		if err != nil {
			return mapping.Template{}, fmt.Errorf("mapping.auto_register.template.max_budget: %w", err)
		}
		template.MaxBudget = &budget
	}
	return template, nil
}

func responseOf(c *configv1.Config) authz.ResponseConfig {
	h := c.GetHeaders()
	return authz.ResponseConfig{
		Headers: authz.HeaderNames{
			KeyID: h.GetKeyId(), KeyAlias: h.GetKeyAlias(), TeamID: h.GetTeamId(), UserID: h.GetUserId(),
			UserEmail: h.GetUserEmail(), OrganizationID: h.GetOrgId(), Source: h.GetSource(), DecisionID: h.GetDecisionId(),
		},
		KeepCredential: c.GetUpstreamCredential() == "keep",
		OutageAsError:  c.GetOutageResponse() == "error",
		RetryAfter:     retryAfterSeconds,
	}
}

// retryAfterSeconds is what a client is told to wait after an outage: about as long as a restart takes.
const retryAfterSeconds = 2
