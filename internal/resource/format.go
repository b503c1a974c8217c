package resource

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Format writes a set as a resource file, in the set's order, keys by their hash. What it writes, [Parse] reads back as
// an equal set: a row that cannot be written so is an error, which says where. Times are written in UTC, and what a row
// keeps is not written.
func Format(set *Set) ([]byte, error) {
	root := new(yamlfile.Object)
	addSection(root, "organizations", set.Organizations, organizationNode)
	addSection(root, "teams", set.Teams, teamNode)
	addSection(root, "users", set.Users, userNode)
	addSection(root, "keys", set.Keys, keyNode)
	addSection(root, "mappings", set.Mappings, mappingNode)
	data, err := root.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing resources: %w", err)
	}
	if _, _, err := Parse("resources", data); err != nil {
		return nil, fmt.Errorf("writing resources: %w", err)
	}
	return data, nil
}

func organizationNode(o *Organization) *yamlfile.Object {
	row := new(yamlfile.Object)
	row.Text("id", string(o.ID))
	row.Text("alias", o.Alias)
	addSwitch(row, "blocked", o.Blocked, o.KeepBlocked)
	addBudget(row, o.Budget, o.KeepSpend)
	return row
}

func teamNode(t *Team) *yamlfile.Object {
	row := new(yamlfile.Object)
	row.Text("id", string(t.ID))
	row.Text("alias", t.Alias)
	row.Text("organization_id", string(t.OrganizationID))
	row.Texts("models", t.Models)
	row.Texts("allowed_routes", t.AllowedRoutes)
	addSwitch(row, "blocked", t.Blocked, t.KeepBlocked)
	addBudget(row, t.Budget, t.KeepSpend)
	addLimits(row, t.Limits)
	addMembers(row, t.Members)
	return row
}

func addMembers(row *yamlfile.Object, members []teams.UserID) {
	if members != nil && len(members) == 0 {
		row.None("members")
		return
	}
	row.Texts("members", texts(members))
}

func texts(ids []teams.UserID) []string {
	var list []string
	for _, id := range ids {
		list = append(list, string(id))
	}
	return list
}

func userNode(u *User) *yamlfile.Object {
	row := new(yamlfile.Object)
	row.Text("id", string(u.ID))
	row.Text("email", u.Email)
	addSwitch(row, "blocked", u.Blocked, u.KeepBlocked)
	addBudget(row, u.Budget, u.KeepSpend)
	return row
}

func keyNode(k *Key) *yamlfile.Object {
	row := new(yamlfile.Object)
	row.Text("alias", k.Alias)
	row.Text("hash", string(k.ID))
	row.Text("team_id", string(k.TeamID))
	row.Text("user_id", string(k.UserID))
	row.Text("organization_id", string(k.OrganizationID))
	row.Texts("models", k.Models)
	row.Texts("allowed_routes", k.AllowedRoutes)
	addSwitch(row, "blocked", k.Blocked, k.KeepBlocked)
	addSwitch(row, "jwt_only", k.JWTOnly, k.KeepJWTOnly)
	addTime(row, "expires_at", k.ExpiresAt)
	if k.IdleTimeout > 0 {
		row.Text("idle_timeout", k.IdleTimeout.String())
	}
	addTime(row, "idle_expires_at", k.IdleExpiresAt)
	row.Text("sealed", base64.StdEncoding.EncodeToString(k.Sealed))
	addBudget(row, k.Budget, k.KeepSpend)
	addLimits(row, k.Limits)
	row.Flag("auto_registered", k.AutoRegistered)
	return row
}

// mappingNode writes a hash in place of an alias wherever both are known: an alias can be given to another key.
func mappingNode(m *Mapping) *yamlfile.Object {
	row := new(yamlfile.Object)
	row.Text("issuer", string(m.Issuer))
	row.Text("claim", m.Claim)
	row.Text("value", m.Value)
	if m.KeyID != "" {
		row.Text("key", string(m.KeyID))
	} else {
		row.Text("key", m.KeyAlias)
	}
	addSwitch(row, "active", m.Active, m.KeepActive)
	row.Flag("auto_registered", m.AutoRegistered)
	return row
}

// addSwitch writes a switch in either position: one that is not written is left as it is.
func addSwitch(row *yamlfile.Object, key string, on, keep bool) {
	if !keep {
		row.Plain(key, strconv.FormatBool(on))
	}
}

func addBudget(row *yamlfile.Object, b teams.Budget, keepSpend bool) {
	if b.Max != nil {
		row.Plain("max_budget", FormatAmount(*b.Max))
	}
	if !keepSpend {
		row.Plain("spend", FormatAmount(b.Spend))
	}
	row.Text("budget_window", b.Window.String())
	addTime(row, "budget_reset_at", b.ResetAt)
}

// addTime writes a time in UTC; the zero time is not written.
func addTime(row *yamlfile.Object, key string, at time.Time) {
	if !at.IsZero() {
		row.Plain(key, at.UTC().Format(time.RFC3339Nano))
	}
}

func addLimits(row *yamlfile.Object, l teams.Limits) {
	if l.RPM != nil {
		row.Plain("rpm_limit", strconv.FormatInt(*l.RPM, 10))
	}
	if l.TPM != nil {
		row.Plain("tpm_limit", strconv.FormatInt(*l.TPM, 10))
	}
}

// addSection writes a section that has rows.
func addSection[R any](root *yamlfile.Object, key string, rows []R, one func(*R) *yamlfile.Object) {
	objects := make([]*yamlfile.Object, len(rows))
	for i := range rows {
		objects[i] = one(&rows[i])
	}
	root.List(key, objects)
}
