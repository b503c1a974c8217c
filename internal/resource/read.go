package resource

import (
	"encoding/base64"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// reader converts the decoded file and reports what the schema's rules cannot say.
type reader struct{ file *yamlfile.File }

func (r *reader) set(m *configv1.ResourceFile) *Set {
	return &Set{
		Organizations: convert(m.GetOrganizations(), "organizations", r.organization),
		Teams:         convert(m.GetTeams(), "teams", r.team),
		Users:         convert(m.GetUsers(), "users", r.user),
		Keys:          convert(m.GetKeys(), "keys", r.key),
		Mappings:      convert(m.GetMappings(), "mappings", r.mapping),
	}
}

// convert returns nil for an empty section, so that a set does not depend on how emptiness was written.
func convert[M, R any](messages []M, section string, one func(string, M) R) []R {
	var rows []R
	for i, message := range messages {
		rows = append(rows, one(yamlfile.Element(section, i), message))
	}
	return rows
}

func (r *reader) organization(path string, m *configv1.OrganizationResource) Organization {
	return Organization{
		Organization: teams.Organization{
			ID:      teams.OrganizationID(m.GetId()),
			Alias:   m.GetAlias(),
			Blocked: m.GetBlocked(),
			Budget:  r.budget(path, m),
		},
		KeepSpend: m.Spend == nil, KeepBlocked: m.Blocked == nil,
	}
}

func (r *reader) team(path string, m *configv1.TeamResource) Team {
	return Team{
		Team: teams.Team{
			ID:             teams.TeamID(m.GetId()),
			Alias:          m.GetAlias(),
			OrganizationID: teams.OrganizationID(m.GetOrganizationId()),
			Models:         m.GetModels(),
			AllowedRoutes:  m.GetAllowedRoutes(),
			Blocked:        m.GetBlocked(),
			Budget:         r.budget(path, m),
			Limits:         teams.Limits{RPM: m.RpmLimit, TPM: m.TpmLimit},
		},
		KeepSpend: m.Spend == nil, KeepBlocked: m.Blocked == nil,
		Members: r.members(path+".members", m.GetMembers()),
	}
}

// members returns nil for a list that is not stated: an empty one is a statement too.
func (r *reader) members(path string, ids []string) []teams.UserID {
	if len(ids) == 0 && !r.file.Has(path) {
		return nil
	}
	list := make([]teams.UserID, len(ids))
	for i, id := range ids {
		list[i] = teams.UserID(id)
	}
	return list
}

func (r *reader) user(path string, m *configv1.UserResource) User {
	return User{
		User: teams.User{
			ID:      teams.UserID(m.GetId()),
			Email:   m.GetEmail(),
			Blocked: m.GetBlocked(),
			Budget:  r.budget(path, m),
		},
		KeepSpend: m.Spend == nil, KeepBlocked: m.Blocked == nil,
	}
}

func (r *reader) key(path string, m *configv1.KeyResource) Key {
	if keys.ID(m.GetAlias()).Valid() {
		r.file.Report(path+".alias", "looks like a hash, which a mapping could not tell from one", "any other name")
	}
	return Key{
		Key: keys.Key{
			ID:             r.keyID(path, m),
			Alias:          m.GetAlias(),
			TeamID:         teams.TeamID(m.GetTeamId()),
			UserID:         teams.UserID(m.GetUserId()),
			OrganizationID: teams.OrganizationID(m.GetOrganizationId()),
			Models:         m.GetModels(),
			AllowedRoutes:  m.GetAllowedRoutes(),
			Blocked:        m.GetBlocked(),
			AutoRegistered: m.GetAutoRegistered(),
			JWTOnly:        m.GetJwtOnly(),
			ExpiresAt:      r.expiry(path+".expires_at", m.GetExpiresAt()),
			IdleTimeout:    m.GetIdleTimeout().AsDuration(),
			IdleExpiresAt:  r.expiry(path+".idle_expires_at", m.GetIdleExpiresAt()),
			Sealed:         r.sealed(path+".sealed", m.GetSealed()),
			Budget:         r.budget(path, m),
			Limits:         teams.Limits{RPM: m.RpmLimit, TPM: m.TpmLimit},
		},
		KeepSpend: m.Spend == nil, KeepBlocked: m.Blocked == nil, KeepJWTOnly: m.JwtOnly == nil,
		Secret: keys.Secret(m.GetSecret()),
	}
}

// sealed returns nil for a text that is not stated: the row's is kept.
func (r *reader) sealed(path, text string) []byte {
	if text == "" {
		return nil
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.file.Refuse(path, "is not base64", "")
	}
	return sealed
}

// keyID returns the hash that the file states, or that of the secret it states. The secret goes no further.
func (r *reader) keyID(path string, m *configv1.KeyResource) keys.ID {
	switch {
	case m.Secret == nil && m.Hash == nil:
		r.file.Report(path, "has neither secret nor hash", "exactly one of the two")
	case m.Secret != nil && m.Hash != nil:
		r.file.Report(path, "has both secret and hash", "exactly one of the two")
	case m.Secret != nil && m.Sealed != nil:
		r.file.Report(path, "has both secret and sealed", "one of the two: a secret is sealed where the configuration has a keyset")
	case m.Hash != nil:
		return keys.ID(m.GetHash())
	default:
		return keys.Secret(m.GetSecret()).ID()
	}
	return ""
}

// expiry refuses times that could not come back from a store: the zero time means never, and a database keeps microseconds.
func (r *reader) expiry(path string, stamp *timestamppb.Timestamp) time.Time {
	if stamp == nil {
		return time.Time{}
	}
	t := stamp.AsTime()
	if t.Unix() <= 0 || t.Year() > 9999 || t.Nanosecond()%int(time.Microsecond) != 0 {
		r.file.Refuse(path, outside, "a time from 1970 to 9999, in whole microseconds")
	}
	return t
}

const outside = "is not a time that can be kept"

func (r *reader) mapping(path string, m *configv1.MappingResource) Mapping {
	if _, err := token.ParsePath(m.GetClaim()); err != nil && m.GetClaim() != "" {
		r.file.Refuse(path+".claim", "is not a claim path", "")
	}
	row := Mapping{Mapping: mapping.Mapping{
		Issuer: token.IssuerURL(m.GetIssuer()),
		Claim:  m.GetClaim(),
		Value:  m.GetValue(),
		Active: m.Active == nil || m.GetActive(),

		AutoRegistered: m.GetAutoRegistered(),
	}, KeepActive: m.Active == nil}
	if id := keys.ID(m.GetKey()); id.Valid() {
		row.KeyID = id
	} else {
		row.KeyAlias = m.GetKey()
	}
	return row
}

// spender is any resource with a budget.
type spender interface {
	GetMaxBudget() string
	GetSpend() string
	GetBudgetWindow() string
	GetBudgetResetAt() *timestamppb.Timestamp
}

// budget takes an empty text for an amount that is not stated; the schema's rules refuse one that is stated.
func (r *reader) budget(path string, m spender) teams.Budget {
	var budget teams.Budget
	if m.GetMaxBudget() != "" {
		limit := r.amount(path+".max_budget", m.GetMaxBudget())
		budget.Max = &limit
	}
	if m.GetSpend() != "" {
		budget.Spend = r.amount(path+".spend", m.GetSpend())
	}
	budget.Window, _ = teams.ParseWindow(m.GetBudgetWindow()) // the schema's rules refuse a bad one
	budget.ResetAt = r.expiry(path+".budget_reset_at", m.GetBudgetResetAt())
	return budget
}

func (r *reader) amount(path, text string) teams.Micros {
	amount, err := ParseAmount(text)
	if err != nil {
		r.file.Refuse(path, "is not an amount", AllowedAmount)
	}
	return amount
}
