package teams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/token"
)

// Config is the policy that the operator declared. The zero value admits every verified caller and
// closes the built-in management routes.
type Config struct {
	// PublicRoutes need no credential.
	PublicRoutes []string
	// AdminScope makes a caller a proxy admin, who may use AdminRoutes and nothing else. Empty: there
	// are no admins.
	AdminScope string
	// AdminRoutes are closed to everyone else unless a role or scope names them. Empty means
	// management_routes.
	AdminRoutes []string
	// Rules are conditions on every request with a token, admins' included; IssuerRules only on those
	// with a token of that issuer.
	Rules       []Rule
	IssuerRules map[token.IssuerURL][]Rule
	// TeamRules are conditions that see the team: on every request that has passed the others, and on
	// that of a direct virtual key.
	TeamRules []Rule
	// EmailDomains, if any, must hold the domain of the caller's email.
	EmailDomains []string
	// Roles and Scopes: where a list is not empty, at least one entry that the caller holds must
	// permit the request.
	Roles  []Grant
	Scopes []Grant
	// DefaultTeam is for callers whose token names no team. Empty: they have none.
	DefaultTeam TeamID
	// ByAlias lets tokens and clients name a team or organization by its alias, if it has no such id.
	ByAlias bool
	// AutoRegister makes the teams that tokens name; nil means that a team without a row is unknown. A new
	// team lists nobody, so that nobody passes with RequireMember as well.
	AutoRegister *AutoRegister
	// RequireMember denies users whom their team does not list.
	RequireMember bool
	// RouteGroups are the operator's own groups, by name.
	RouteGroups map[string][]string
	// Now is the clock that rules see; nil means time.Now.
	Now func() time.Time
}

// Grant permits routes and models to the holders of a role or scope. An empty list restricts nothing.
type Grant struct {
	Name   string
	Routes []string
	Models []string
}

// Request is the part of an HTTP request that policy looks at.
type Request struct {
	Method string
	// Path is canonical and decoded once; package authz refuses any other.
	Path  string
	Model Model
	// Team is the team that the client asked for in the selector header; empty if it asked for none.
	Team TeamID
}

// Policy is a compiled Config. It is immutable and safe for concurrent use.
type Policy struct {
	config    Config
	routes    *Routes
	domains   map[string]bool
	directory Directory
	rules     map[token.IssuerURL][]compiledRule // the common ones and the issuer's own
	common    []compiledRule                     // of an issuer without its own
	teamRules []compiledRule

	registration *registration // nil: no team is made
}

// NewPolicy compiles the policy; the error names the entry at fault. A nil directory knows no rows
// at all, so that rows restrict nothing: the token's team and organization are taken at its word. Without a
// registrar, no team is made.
func NewPolicy(config Config, directory Directory, registrar Registrar) (*Policy, error) {
	routes, err := NewRoutes(config.RouteGroups)
	if err != nil {
		return nil, err
	}
	if len(config.AdminRoutes) == 0 {
		config.AdminRoutes = []string{"management_routes"}
	}
	p := &Policy{config: config, routes: routes, domains: make(map[string]bool), directory: directory}
	for _, domain := range config.EmailDomains {
		p.domains[strings.ToLower(domain)] = true
	}
	if p.config.Now == nil {
		p.config.Now = time.Now
	}
	p.registration = newRegistration(p.config, directory, registrar)
	if err := p.compileRules(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Policy) compileRules() error {
	scope, err := newRuleScope(false)
	if err != nil {
		return err
	}
	teamScope, err := newRuleScope(true)
	if err != nil {
		return err
	}
	if p.common, err = scope.compileAll(p.config.Rules); err != nil {
		return err
	}
	p.rules = make(map[token.IssuerURL][]compiledRule)
	for issuer, own := range p.config.IssuerRules {
		compiled, err := scope.compileAll(own)
		if err != nil {
			return err
		}
		p.rules[issuer] = append(slices.Clone(p.common), compiled...)
	}
	p.teamRules, err = teamScope.compileAll(p.config.TeamRules)
	return err
}

func (p *Policy) check() error {
	lists := []Grant{{"public_routes", p.config.PublicRoutes, nil}, {"admin", p.config.AdminRoutes, nil}}
	lists = append(append(lists, p.config.Roles...), p.config.Scopes...)
	for _, list := range lists {
		for _, pattern := range list.Routes {
			if err := p.routes.Check(pattern); err != nil {
				return fmt.Errorf("policy: %s: %w", list.Name, err)
			}
		}
	}
	return nil
}

// Public reports whether the route needs no credential.
func (p *Policy) Public(r Request) bool {
	return p.routes.Match(p.config.PublicRoutes, r.Method, r.Path)
}

// Admin reports whether the caller is a proxy admin.
func (p *Policy) Admin(id *Identity) bool {
	return p.config.AdminScope != "" && holds(id.Scopes, p.config.AdminScope)
}

// Admit decides whether the caller may make the request at all, whatever its team and key.
func (p *Policy) Admit(ctx context.Context, id *Identity, r Request) error {
	if id.Unusable != "" {
		return fmt.Errorf("%w: %s", ErrIdentityUnusable, id.Unusable)
	}
	if err := p.admitRules(ctx, id, r); err != nil {
		return err
	}
	if err := p.admitEmail(id); err != nil {
		return err
	}
	if p.Admin(id) {
		if !p.routes.Match(p.config.AdminRoutes, r.Method, r.Path) {
			return fmt.Errorf("%w: not an admin route", ErrRouteForbidden)
		}
		return nil
	}
	if err := p.admitGrants(ctx, "role", p.config.Roles, id.Roles, r, ErrRoleMissing); err != nil {
		return err
	}
	if err := p.admitGrants(ctx, "scope", p.config.Scopes, id.Scopes, r, ErrScopeMissing); err != nil {
		return err
	}
	return p.admitAdminRoute(id, r)
}

func (p *Policy) admitRules(ctx context.Context, id *Identity, r Request) error {
	rules, own := p.rules[id.Issuer]
	if !own {
		rules = p.common
	}
	if len(rules) == 0 {
		return nil
	}
	return checkAll(ctx, rules, ruleVariables(id, r, p.config.Now()))
}

func (p *Policy) admitEmail(id *Identity) error {
	switch {
	case len(p.domains) == 0:
		return nil
	case id.EmailUnverified:
		return fmt.Errorf("%w: email_verified is not true", ErrEmailDomain)
	case !p.domains[emailDomain(id.Email)]:
		return ErrEmailDomain
	}
	return nil
}

// admitGrants returns nil if no grants are configured or one that is held permits the request. The
// error is that of the held grant that came furthest.
func (p *Policy) admitGrants(ctx context.Context, kind string, grants []Grant, held []string, r Request, missing error) error {
	if len(grants) == 0 {
		return nil
	}
	denied := missing
	for _, grant := range grants {
		if !holds(held, grant.Name) {
			continue
		}
		err := p.Permit(grant.Routes, grant.Models, r)
		if err == nil {
			trace.From(ctx).Add("policy", "%s %q permits the route and the model", kind, grant.Name)
			return nil
		}
		trace.From(ctx).Add("policy", "%s %q does not permit it: %s", kind, grant.Name, err.Error())
		if !isModelError(denied) {
			denied = err
		}
	}
	return denied
}

func isModelError(err error) bool {
	return errors.Is(err, ErrModelForbidden) || errors.Is(err, ErrModelRequired)
}

// AdmitKey decides what Admit decides for a caller with a direct virtual key, who holds no role and no
// scope: the admin routes are closed.
func (p *Policy) AdmitKey(r Request) error { return p.admitAdminRoute(&Identity{}, r) }

// admitAdminRoute closes the admin routes to all whom no role or scope grants them by name; a grant
// without routes restricts nothing and so names none.
func (p *Policy) admitAdminRoute(id *Identity, r Request) error {
	if !p.routes.Covers(p.config.AdminRoutes, r.Method, r.Path) {
		return nil
	}
	if p.named(p.config.Roles, id.Roles, r) || p.named(p.config.Scopes, id.Scopes, r) {
		return nil
	}
	return fmt.Errorf("%w: an admin route", ErrRouteForbidden)
}

func (p *Policy) named(grants []Grant, held []string, r Request) bool {
	for _, grant := range grants {
		if holds(held, grant.Name) && p.routes.Match(grant.Routes, r.Method, r.Path) {
			return true
		}
	}
	return false
}

// Permit applies one pair of restrictions, those of a grant, a team or a key, to the request. An
// empty list restricts nothing.
func (p *Policy) Permit(routes, models []string, r Request) error {
	if !p.routes.Allow(routes, r.Method, r.Path) {
		return ErrRouteForbidden
	}
	return allowModel(models, r.Model)
}

func holds(held []string, name string) bool {
	for _, h := range held {
		if h == name {
			return true
		}
	}
	return false
}
