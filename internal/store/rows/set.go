package rows

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// The sections of a resource file.
const (
	organizations = "organizations"
	teamsSection  = "teams"
	users         = "users"
	keysSection   = "keys"
	mappings      = "mappings"
)

// CheckSet returns a [*resource.Error] for the first resource that breaks a rule which needs no
// database: every rule of a row, and that a file declares nothing twice.
func CheckSet(set *resource.Set) error {
	return cmp.Or(
		checkSection(organizations, "id", set.Organizations, checkOrganization,
			func(o *resource.Organization) teams.OrganizationID { return o.ID }),
		checkSection(teamsSection, "id", set.Teams, checkTeam,
			func(t *resource.Team) teams.TeamID { return t.ID }),
		checkSection(users, "id", set.Users, checkUser,
			func(u *resource.User) teams.UserID { return u.ID }),
		checkSection(keysSection, "hash", set.Keys, checkDeclaredKey,
			func(k *resource.Key) keys.ID { return k.ID }),
		checkAliases(set.Keys),
		checkSection(mappings, "value", set.Mappings, checkMapping, subjectOf),
	)
}

func subjectOf(m *resource.Mapping) mapping.Subject {
	return mapping.Subject{Issuer: m.Issuer, Claim: m.Claim, Value: m.Value}
}

func checkSection[T any, K comparable](
	section, field string, items []T, check func(*T) error, identity func(*T) K,
) error {
	seen := make(map[K]int, len(items))
	for i := range items {
		if err := check(&items[i]); err != nil {
			return locate(section, i, err)
		}
		if err := once(seen, identity(&items[i]), section, i, field); err != nil {
			return err
		}
	}
	return nil
}

func checkAliases(declared []resource.Key) error {
	seen := make(map[string]int, len(declared))
	for i := range declared {
		if declared[i].Alias == "" {
			continue
		}
		if err := once(seen, declared[i].Alias, keysSection, i, "alias"); err != nil {
			return err
		}
	}
	return nil
}

// once refuses a second declaration: which of the two is meant, only the author of the file knows.
func once[K comparable](seen map[K]int, k K, section string, i int, field string) error {
	if first, twice := seen[k]; twice {
		reason := fmt.Sprintf("must be declared once: %s[%d] has it already", section, first)
		return &resource.Error{Section: section, Index: i, Field: field, Reason: reason}
	}
	seen[k] = i
	return nil
}

// locate turns a broken rule into the error that names the resource; other errors pass.
func locate(section string, i int, err error) error {
	var broken *Invalid
	if errors.As(err, &broken) {
		return &resource.Error{Section: section, Index: i, Field: broken.Field, Reason: broken.Reason}
	}
	return err
}
