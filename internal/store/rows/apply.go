package rows

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Table names a table that others refer to.
type Table int

// The tables that [Tx.Existing] is asked about.
const (
	Organizations Table = iota
	Teams
	VirtualKeys
)

// Tx is the transaction in which a set is applied. Its reads see its own writes. A write that the
// database refuses by a constraint is an [*Invalid]; other errors are the driver's.
type Tx interface {
	// Existing returns which of the ids the table holds.
	Existing(ctx context.Context, table Table, ids []string) (map[string]bool, error)
	// AliasHolders returns the keys that have one of the aliases.
	AliasHolders(ctx context.Context, aliases []string) (map[string]keys.ID, error)
	// ReleaseAlias takes the alias away from a key.
	ReleaseAlias(ctx context.Context, id keys.ID) error

	// The Put methods create or update one row, and leave a row alone that is already as declared.
	PutOrganization(ctx context.Context, o *resource.Organization) error
	PutTeam(ctx context.Context, t *resource.Team) error
	// PutMembers makes a team's members those of the list.
	PutMembers(ctx context.Context, team teams.TeamID, members []string) error
	PutUser(ctx context.Context, u *resource.User) error
	PutKey(ctx context.Context, k *resource.Key) error
	PutMapping(ctx context.Context, m *resource.Mapping) error
}

// Apply writes a set that passed [CheckSet]. References are checked first, since a database does
// not say which row of a set has a dangling one. A [*resource.Error] or any other error means
// that the transaction must be rolled back.
func Apply(ctx context.Context, tx Tx, set *resource.Set) error {
	a := applier{tx: tx, set: set}
	steps := []func(context.Context) error{a.organizations, a.teams, a.users, a.keys, a.mappings}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// IdleEnd is when a declared key expires if it is not used: never, without an idle timeout.
func IdleEnd(k *keys.Key, now time.Time) time.Time {
	if k.IdleTimeout == 0 {
		return time.Time{}
	}
	return now.Add(k.IdleTimeout)
}

// Spend is the spend to insert for a declared budget.
func Spend(b teams.Budget, keepSpend bool) teams.Micros { return stated(b, keepSpend).Spend }

// Switch is a declared switch as a parameter: nil if that of an existing row is left as it is.
func Switch(on, keep bool) *bool {
	if keep {
		return nil
	}
	return &on
}

// Members is a stored list of members as a set declares it: no members are a statement too.
func Members(ids []string) []teams.UserID {
	members := make([]teams.UserID, len(ids))
	for i, id := range ids {
		members[i] = teams.UserID(id)
	}
	return members
}

type applier struct {
	tx  Tx
	set *resource.Set
}

func (a applier) organizations(ctx context.Context) error {
	return put(ctx, organizations, a.set.Organizations, a.tx.PutOrganization)
}

func (a applier) teams(ctx context.Context) error {
	err := a.refer(ctx, Organizations, teamsSection, "organization_id",
		column(a.set.Teams, func(t *resource.Team) string { return string(t.OrganizationID) }))
	if err != nil {
		return err
	}
	return put(ctx, teamsSection, a.set.Teams, a.putTeam)
}

func (a applier) putTeam(ctx context.Context, t *resource.Team) error {
	if err := a.tx.PutTeam(ctx, t); err != nil || t.Members == nil {
		return err
	}
	return a.tx.PutMembers(ctx, t.ID, column(t.Members, func(id *teams.UserID) string { return string(*id) }))
}

func (a applier) users(ctx context.Context) error {
	return put(ctx, users, a.set.Users, a.tx.PutUser)
}

func (a applier) keys(ctx context.Context) error {
	err := a.refer(ctx, Teams, keysSection, "team_id",
		column(a.set.Keys, func(k *resource.Key) string { return string(k.TeamID) }))
	if err != nil {
		return err
	}
	err = a.refer(ctx, Organizations, keysSection, "organization_id",
		column(a.set.Keys, func(k *resource.Key) string { return string(k.OrganizationID) }))
	if err != nil {
		return err
	}
	if err := a.freeAliases(ctx); err != nil {
		return err
	}
	return put(ctx, keysSection, a.set.Keys, a.tx.PutKey)
}

// freeAliases refuses an alias that another key keeps, and takes aliases away from keys of the set
// that give them up: two keys of one file may swap their aliases.
func (a applier) freeAliases(ctx context.Context) error {
	wanted := column(a.set.Keys, func(k *resource.Key) string { return k.Alias })
	holders, err := a.tx.AliasHolders(ctx, present(wanted))
	if err != nil {
		return err
	}
	declared := make(map[keys.ID]bool, len(a.set.Keys))
	for i := range a.set.Keys {
		declared[a.set.Keys[i].ID] = true
	}
	for i := range a.set.Keys {
		holder, held := holders[wanted[i]]
		if !held || holder == a.set.Keys[i].ID {
			continue
		}
		if !declared[holder] {
			return &resource.Error{Section: keysSection, Index: i, Field: "alias", Reason: "must be unique: another key has it"}
		}
		if err := a.tx.ReleaseAlias(ctx, holder); err != nil {
			return err
		}
	}
	return nil
}

func (a applier) mappings(ctx context.Context) error {
	resolved, err := a.resolve(ctx)
	if err != nil {
		return err
	}
	err = a.refer(ctx, VirtualKeys, mappings, "key",
		column(resolved, func(m *resource.Mapping) string { return string(m.KeyID) }))
	if err != nil {
		return err
	}
	return put(ctx, mappings, resolved, a.tx.PutMapping)
}

// resolve returns the mappings with their keys' hashes. It runs after the keys are written, so
// that the aliases of the set are the stored ones and come first.
func (a applier) resolve(ctx context.Context) ([]resource.Mapping, error) {
	aliases := column(a.set.Mappings, func(m *resource.Mapping) string {
		if m.KeyID != "" {
			return ""
		}
		return m.KeyAlias
	})
	holders, err := a.tx.AliasHolders(ctx, present(aliases))
	if err != nil {
		return nil, err
	}
	resolved := append([]resource.Mapping(nil), a.set.Mappings...)
	for i, alias := range aliases {
		if alias == "" {
			continue
		}
		if resolved[i].KeyID = holders[alias]; resolved[i].KeyID == "" {
			return nil, unknown(mappings, i, "key")
		}
	}
	return resolved, nil
}

// refer checks that every id of a column ("" for none) is a row of the table.
func (a applier) refer(ctx context.Context, table Table, section, field string, ids []string) error {
	found, err := a.tx.Existing(ctx, table, present(ids))
	if err != nil {
		return err
	}
	for i, id := range ids {
		if id != "" && !found[id] {
			return unknown(section, i, field)
		}
	}
	return nil
}

func unknown(section string, i int, field string) error {
	return &resource.Error{Section: section, Index: i, Field: field, Reason: "must name one that this set or the store has"}
}

func put[T any](ctx context.Context, section string, items []T, write func(context.Context, *T) error) error {
	for i := range items {
		if err := write(ctx, &items[i]); err != nil {
			return locate(section, i, err)
		}
	}
	return nil
}

func column[T any](items []T, field func(*T) string) []string {
	out := make([]string, len(items))
	for i := range items {
		out[i] = field(&items[i])
	}
	return out
}

// present leaves the empty values of a column out: they name nothing.
func present(ids []string) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if id != "" {
			out = append(out, id)
		}
	}
	return out
}
