package config

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// Defaults returns what an empty file stands for, with one issuer that has nothing but its own defaults. The reference
// page is made from it; it cannot be served.
func Defaults() *configv1.Config {
	c := &configv1.Config{Issuers: []*configv1.Issuer{{}}}
	setDefaults(c)
	return c
}

// setDefaults fills in every value that is not set and has a default. This file is the only place where defaults are
// written.
func setDefaults(c *configv1.Config) {
	setServerDefaults(section(&c.Server))
	fill(&section(&c.Telemetry).Address, "127.0.0.1:9003")
	setStoreDefaults(section(&c.Store))
	setCacheDefaults(section(&c.Cache))
	for _, issuer := range c.GetIssuers() {
		setIssuerDefaults(issuer)
	}
	setPolicyDefaults(section(&c.Policy))
	setMappingDefaults(section(&c.Mapping))
	fillList(&section(&c.Credentials).Headers, "authorization")
	fill(&c.UpstreamCredential, "strip")
	setHeaderDefaults(section(&c.Headers))
	fill(&c.OutageResponse, "denied")
	setLogDefaults(section(&c.Log))
	fill(&c.Mode, "enforce")
	fill(&section(&c.Credentials).VirtualKeys, true)
	fill(&section(&c.KeyHeader).Name, "authorization")
	fill(&c.KeyHeader.Prefix, "Bearer ")
	for _, profile := range c.GetProfiles() {
		if profile.GetPolicy() != nil {
			setPolicyDefaults(profile.GetPolicy())
		}
	}
}

func setServerDefaults(s *configv1.Server) {
	fill(&s.Address, "127.0.0.1:9001")
	fill(&s.SocketMode, "0660")
	fillTime(&s.CheckTimeout, 400*time.Millisecond)
	fill(&s.MaxMessageBytes, 4<<20)
	fill(&s.MaxConcurrentStreams, 1000)
	fill(&s.MaxConnections, 4096)
	fillTime(&s.MaxConnectionAge, 30*time.Minute)
	fillTime(&s.DrainTimeout, 20*time.Second)
	fillTime(&s.DrainDelay, 5*time.Second)
	fill(&s.Reflection, false)
}

// setStoreDefaults leaves the URL alone where a file should have given it: the file's fault is reported, and must
// not look like a choice of SQLite.
func setStoreDefaults(s *configv1.Store) {
	if s.UrlFile == nil {
		fill(&s.Url, "sqlite:extauthz.db")
	}
	fillTime(&s.Timeout, 300*time.Millisecond)
	fill(&s.MaxConnections, 10)
}

func setCacheDefaults(c *configv1.Cache) {
	fillTime(&c.Ttl, 30*time.Second)
	fill(&c.MaxBytes, 128<<20)
	fill(&c.MaxAbsentBytes, 8<<20)
	fill(&c.MaxTokenBytes, 64<<20)
}

func setIssuerDefaults(i *configv1.Issuer) {
	fillList(&i.Algorithms, "RS256", "ES256", "EdDSA")
	fillTime(&i.Leeway, 30*time.Second)
	fillTime(&i.MaxLifetime, 24*time.Hour)
	fillList(&i.Types, "absent", "JWT", "at+jwt")
	fillTime(&i.JwksRefresh, 5*time.Minute)
	fillTime(&i.JwksMaxAge, 24*time.Hour)
	section(&i.Claims)
	section(&i.Mapping)
	setRuleDefaults(i.GetRules())
}

func setRuleDefaults(rules []*configv1.Rule) {
	for _, rule := range rules {
		fill(&rule.Mode, "enforce")
	}
}

func setPolicyDefaults(p *configv1.Policy) {
	fillList(&section(&p.Admin).Routes, "management_routes")
	teams := section(&p.Teams)
	fill(&teams.DefaultTeamId, "")
	fill(&teams.SelectorHeader, "x-team-id")
	fill(&teams.ByAlias, false)
	fill(&teams.RequireMember, false)
	if register := teams.GetAutoRegister(); register != nil {
		fill(&register.MaxTeams, 1000)
		fill(&register.MaxPerMinute, 60)
	}
	setRuleDefaults(p.GetRules())
	setRuleDefaults(teams.GetRules())
}

func setMappingDefaults(m *configv1.Mapping) {
	fillTime(&m.CacheTtl, 300*time.Second)
	fillTime(&m.AbsentTtl, m.GetCacheTtl().AsDuration())
	fillTime(&m.ServeStale, 5*time.Minute)
	fill(&m.NoMatchMode, "enforce")
	register := section(&m.AutoRegister)
	fill(&register.MaxKeysPerTeam, 1000)
	fill(&register.MaxPerMinute, 600)
	section(&register.Template)
}

func setHeaderDefaults(h *configv1.IdentityHeaders) {
	fill(&h.KeyId, "x-extauthz-key-id")
	fill(&h.KeyAlias, "x-extauthz-key-alias")
	fill(&h.TeamId, "x-extauthz-team-id")
	fill(&h.UserId, "x-extauthz-user-id")
	fill(&h.UserEmail, "x-extauthz-user-email")
	fill(&h.OrgId, "x-extauthz-org-id")
	fill(&h.Source, "x-extauthz-source")
	fill(&h.DecisionId, "x-extauthz-decision-id")
}

func setLogDefaults(l *configv1.Log) {
	fill(&l.Level, "info")
	fill(&l.AllowSampleRate, 1)
}

// section returns the message at p, made if there is none.
func section[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

func fillTime(p **durationpb.Duration, d time.Duration) {
	if *p == nil {
		*p = durationpb.New(d)
	}
}

func fillList(p *[]string, values ...string) {
	if len(*p) == 0 {
		*p = values
	}
}
