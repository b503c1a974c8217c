package rows

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

const (
	// MaxText bounds every text of a row, in bytes (SPEC.md §2).
	MaxText = 1024
	// MaxIssuer bounds an issuer, in bytes: issuer, claim and value share one index entry, for which
	// PostgreSQL has 2,704 bytes.
	MaxIssuer = 512
)

// Years outside this range do not survive every store, RFC 3339 or the zero time that means never.
const firstYear, lastYear = 1970, 9999

// Storable reports whether an identifier can be in a store at all. Asking a store for another one
// is a plain miss on every store; without this, PostgreSQL would answer NUL or invalid UTF-8 with
// an error, and a caller could make an outage out of a claim.
func Storable[T ~string](id T) bool { return name("", string(id)) == nil }

// StorableSubject is [Storable] for a subject.
func StorableSubject(s mapping.Subject) bool { return CheckSubject(s) == nil }

// CheckSubject returns an [*Invalid] for a subject that no mapping can have.
func CheckSubject(s mapping.Subject) error {
	return cmp.Or(issuer(s.Issuer), name("claim", s.Claim), name("value", s.Value))
}

// CheckKey returns an [*Invalid] for a key that breaks a rule of the schema.
func CheckKey(k *keys.Key) error {
	return cmp.Or(
		hash("hash", k.ID), text("alias", k.Alias, MaxText),
		text("team_id", string(k.TeamID), MaxText), text("user_id", string(k.UserID), MaxText),
		text("organization_id", string(k.OrganizationID), MaxText),
		list("models", k.Models), list("allowed_routes", k.AllowedRoutes),
		moment("expires_at", k.ExpiresAt), moment("idle_expires_at", k.IdleExpiresAt), idle(k.IdleTimeout), sealed(k.Sealed),
		budget(k.Budget), limits(k.Limits),
	)
}

func checkOrganization(o *resource.Organization) error {
	return cmp.Or(name("id", string(o.ID)), text("alias", o.Alias, MaxText), budget(stated(o.Budget, o.KeepSpend)))
}

func checkTeam(t *resource.Team) error {
	return cmp.Or(
		name("id", string(t.ID)), text("alias", t.Alias, MaxText),
		text("organization_id", string(t.OrganizationID), MaxText),
		list("models", t.Models), list("allowed_routes", t.AllowedRoutes),
		budget(stated(t.Budget, t.KeepSpend)), limits(t.Limits),
		list("members", column(t.Members, func(id *teams.UserID) string { return string(*id) })),
	)
}

func checkUser(u *resource.User) error {
	return cmp.Or(name("id", string(u.ID)), text("email", u.Email, MaxText), budget(stated(u.Budget, u.KeepSpend)))
}

func checkDeclaredKey(k *resource.Key) error {
	checked := k.Key
	checked.Budget = stated(k.Budget, k.KeepSpend)
	return CheckKey(&checked)
}

func checkMapping(m *resource.Mapping) error {
	key := hash("key", m.KeyID)
	if m.KeyID == "" {
		key = name("key", m.KeyAlias)
	}
	return cmp.Or(CheckSubject(mapping.Subject{Issuer: m.Issuer, Claim: m.Claim, Value: m.Value}), key)
}

// stated is the budget that a file declares: a spend it leaves out is 0 until a row is found.
func stated(b teams.Budget, keepSpend bool) teams.Budget {
	if keepSpend {
		b.Spend = 0
	}
	return b
}

func name(field, value string) error {
	if value == "" {
		return &Invalid{field, "must not be empty"}
	}
	return text(field, value, MaxText)
}

func text(field, value string, limit int) error {
	switch {
	case len(value) > limit:
		return &Invalid{field, fmt.Sprintf("must be at most %d bytes long", limit)}
	case !utf8.ValidString(value):
		return &Invalid{field, "must be valid UTF-8"}
	case strings.ContainsFunc(value, unicode.IsControl):
		return &Invalid{field, "must not contain control characters"}
	}
	return nil
}

func issuer(value token.IssuerURL) error { return text("issuer", string(value), MaxIssuer) }

func hash(field string, id keys.ID) error {
	if !id.Valid() {
		return &Invalid{field, "must be a SHA-256 in lower-case hex (64 digits)"}
	}
	return nil
}

func list(field string, elements []string) error {
	for i, element := range elements {
		if err := name(fmt.Sprintf("%s[%d]", field, i), element); err != nil {
			return err
		}
	}
	return nil
}

// MaxSealed bounds a sealed key, in bytes: one of the longest text takes about 1,100.
const MaxSealed = 3072

func sealed(text []byte) error {
	if text != nil && (len(text) == 0 || len(text) > MaxSealed) {
		return &Invalid{"sealed", fmt.Sprintf("must be 1 to %d bytes long", MaxSealed)}
	}
	return nil
}

// maxIdle is a hundred years: no date that it leads to is outside what a store keeps.
const maxIdle = 100 * 365 * 24 * time.Hour

func idle(timeout time.Duration) error {
	if timeout < 0 || timeout > maxIdle || timeout%time.Microsecond != 0 {
		return &Invalid{"idle_timeout", "must be 0 to 100 years, in whole microseconds"}
	}
	return nil
}

func moment(field string, at time.Time) error {
	if year := at.UTC().Year(); !at.IsZero() && (year < firstYear || year > lastYear) {
		return &Invalid{field, fmt.Sprintf("must lie in the years %d to %d", firstYear, lastYear)}
	}
	return nil
}

func budget(b teams.Budget) error {
	if b.Max != nil && *b.Max < 0 {
		return &Invalid{"max_budget", "must not be negative"}
	}
	if b.Spend < 0 {
		return &Invalid{"spend", "must not be negative"}
	}
	return moment("budget_reset_at", b.ResetAt)
}

func limits(l teams.Limits) error {
	return cmp.Or(limit("rpm_limit", l.RPM), limit("tpm_limit", l.TPM))
}

func limit(field string, perMinute *int64) error {
	if perMinute != nil && *perMinute < 0 {
		return &Invalid{field, "must not be negative"}
	}
	return nil
}

// CheckList returns an [*Invalid] if a stored list holds what no store accepts: a database that
// cannot check elements itself must not hand them on.
func CheckList(field string, elements []string) error { return list(field, elements) }
