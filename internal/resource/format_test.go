package resource_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

func TestFormat(t *testing.T) {
	got, err := resource.Format(setOfSpec())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/formatted.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestFormatOfNothing(t *testing.T) {
	got, err := resource.Format(&resource.Set{})
	if err != nil || string(got) != "{}\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestFormatRefuses shows that an export that could not be applied is an error, not a file.
func TestFormatRefuses(t *testing.T) {
	for want, set := range map[string]*resource.Set{
		"users[0].spend":      {Users: []resource.User{{User: teams.User{ID: "a", Budget: teams.Budget{Spend: -1}}}}},
		"users[0].max_budget": {Users: []resource.User{{User: teams.User{ID: "a", Budget: teams.Budget{Max: ptr(teams.Micros(1 << 60))}}}}},
		"users[0].id":         {Users: []resource.User{{User: teams.User{ID: "a\nb"}}}},
		"keys[0].hash":        {Keys: []resource.Key{{Key: keys.Key{ID: "short"}}}},
	} {
		data, err := resource.Format(set)
		if data != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, %v; want an error at %s", data, err, want)
		}
	}
}

// TestRoundTrip shows that whatever can be exported can be applied again, and means the same.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSet(t)
		data, err := resource.Format(want)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := resource.Parse("r.yaml", data)
		if err != nil {
			t.Fatalf("%v\nin:\n%s", err, data)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v\nfrom:\n%s", got, want, data)
		}
	})
}

func drawSet(t *rapid.T) *resource.Set {
	return &resource.Set{
		Organizations: drawList(t, "organizations", drawOrganization, func(o resource.Organization) any { return o.ID }),
		Teams:         drawList(t, "teams", drawTeam, func(x resource.Team) any { return x.ID }),
		Users:         drawList(t, "users", drawUser, func(u resource.User) any { return u.ID }),
		Keys:          drawList(t, "keys", drawKey, func(k resource.Key) any { return k.ID }),
		Mappings:      drawList(t, "mappings", drawMapping, func(m resource.Mapping) any { return m.Value }),
	}
}

// drawList returns nil for no rows, as Parse does.
func drawList[R any](t *rapid.T, label string, one func(*rapid.T) R, identity func(R) any) []R {
	rows := rapid.SliceOfNDistinct(rapid.Custom(one), 0, 4, identity).Draw(t, label)
	if len(rows) == 0 {
		return nil
	}
	return rows
}

// text draws what YAML finds hard, besides any characters that are not controls.
func text() *rapid.Generator[string] {
	hard := []string{
		"null", "~", "true", "No", "0x1F", "1e3", "007", "1_000", "2027-01-01", ".nan", "<<", "=", "- a", "? a", "a: b", "a #b", "#a", "&a", "*a", "!!str",
		"%a", "@a", "`a`", "'", `"`, `\`, `\n`, "{}", "[a", ", ", " a", "a ", "a  b", "${HOME}", "|", ">", "---", "...", "ä\u00a0", "\ufeff", "🔑", "y", "on", ":", "::",
	}
	anything := rapid.StringOfN(rapid.Rune().Filter(isPlain), 1, 20, 200)
	return rapid.OneOf(rapid.SampledFrom(hard), anything)
}

func isPlain(r rune) bool {
	return r >= 0x20 && (r < 0x7f || r > 0x9f) && r != '\u2028' && r != '\u2029'
}

func drawText(t *rapid.T, label string) string { return text().Draw(t, label) }

func drawOptional(t *rapid.T, label string) string {
	return rapid.OneOf(rapid.Just(""), text()).Draw(t, label)
}

func drawTexts(t *rapid.T, label string) []string {
	list := rapid.SliceOfN(text(), 0, 3).Draw(t, label)
	if len(list) == 0 {
		return nil
	}
	return list
}

// drawBudget returns a budget and whether the spend is kept, in which case a file does not state it.
func drawBudget(t *rapid.T) (teams.Budget, bool) {
	window, err := teams.ParseWindow(rapid.SampledFrom([]string{"", "30s", "15m", "1h", "7d", "2w", "1mo", "1000mo"}).Draw(t, "window"))
	if err != nil {
		t.Fatal(err)
	}
	budget := teams.Budget{
		Max: rapid.Ptr(amounts(), true).Draw(t, "max"), Spend: amounts().Draw(t, "spend"), Window: window, ResetAt: drawTime(t),
	}
	keep := rapid.Bool().Draw(t, "keep")
	if keep {
		budget.Spend = 0
	}
	return budget, keep
}

// drawSwitch returns a switch and whether it is kept, in which case a file does not state it.
func drawSwitch(t *rapid.T, label string, unstated bool) (on, keep bool) {
	if rapid.Bool().Draw(t, "keep "+label) {
		return unstated, true
	}
	return rapid.Bool().Draw(t, label), false
}

func drawLimits(t *rapid.T) teams.Limits {
	limit := rapid.Ptr(rapid.Int64Min(0), true)
	return teams.Limits{RPM: limit.Draw(t, "rpm"), TPM: limit.Draw(t, "tpm")}
}

func drawOrganization(t *rapid.T) resource.Organization {
	budget, keep := drawBudget(t)
	blocked, keepBlocked := drawSwitch(t, "blocked", false)
	return resource.Organization{
		Organization: teams.Organization{
			ID: teams.OrganizationID(drawText(t, "id")), Alias: drawOptional(t, "alias"), Blocked: blocked, Budget: budget,
		},
		KeepSpend: keep, KeepBlocked: keepBlocked,
	}
}

func drawTeam(t *rapid.T) resource.Team {
	budget, keep := drawBudget(t)
	blocked, keepBlocked := drawSwitch(t, "blocked", false)
	return resource.Team{
		Team: teams.Team{
			ID: teams.TeamID(drawText(t, "id")), Alias: drawOptional(t, "alias"), OrganizationID: teams.OrganizationID(drawOptional(t, "organization")),
			Models: drawTexts(t, "models"), AllowedRoutes: drawTexts(t, "routes"), Blocked: blocked,
			Budget: budget, Limits: drawLimits(t),
		},
		KeepSpend: keep, KeepBlocked: keepBlocked, Members: drawMembers(t),
	}
}

// drawMembers returns nil for members that are kept, and an empty list for none.
func drawMembers(t *rapid.T) []teams.UserID {
	if rapid.Bool().Draw(t, "keep members") {
		return nil
	}
	members := []teams.UserID{}
	for _, id := range rapid.SliceOfNDistinct(text(), 0, 3, rapid.ID[string]).Draw(t, "members") {
		members = append(members, teams.UserID(id))
	}
	return members
}

func drawSealed(t *rapid.T) []byte {
	sealed := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "sealed")
	if len(sealed) == 0 {
		return nil
	}
	return sealed
}

func drawUser(t *rapid.T) resource.User {
	budget, keep := drawBudget(t)
	blocked, keepBlocked := drawSwitch(t, "blocked", false)
	return resource.User{
		User: teams.User{
			ID: teams.UserID(drawText(t, "id")), Email: drawOptional(t, "email"), Blocked: blocked, Budget: budget,
		},
		KeepSpend: keep, KeepBlocked: keepBlocked,
	}
}

func drawID(t *rapid.T, label string) keys.ID {
	return keys.Secret(rapid.String().Draw(t, label)).ID()
}

// drawKey makes aliases distinct by the key's own hash.
func drawKey(t *rapid.T) resource.Key {
	id := drawID(t, "secret")
	alias := rapid.SampledFrom([]string{"", "a-" + string(id), "~ " + string(id)}).Draw(t, "alias")
	budget, keep := drawBudget(t)
	blocked, keepBlocked := drawSwitch(t, "blocked", false)
	jwtOnly, keepJWTOnly := drawSwitch(t, "jwt only", false)
	return resource.Key{
		Key: keys.Key{
			ID: id, Alias: alias, TeamID: teams.TeamID(drawOptional(t, "team")), UserID: teams.UserID(drawOptional(t, "user")),
			OrganizationID: teams.OrganizationID(drawOptional(t, "organization")), Models: drawTexts(t, "models"), AllowedRoutes: drawTexts(t, "routes"),
			Blocked: blocked, AutoRegistered: rapid.Bool().Draw(t, "auto"), ExpiresAt: drawTime(t),
			JWTOnly: jwtOnly, IdleExpiresAt: drawTime(t), Sealed: drawSealed(t),
			IdleTimeout: time.Duration(rapid.SampledFrom([]int{0, 60, 3600, 86_400_000}).Draw(t, "idle")) * time.Second,
			Budget:      budget, Limits: drawLimits(t),
		},
		KeepSpend: keep, KeepBlocked: keepBlocked, KeepJWTOnly: keepJWTOnly,
	}
}

func drawTime(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "never") {
		return time.Time{}
	}
	lastMicros := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro()
	return time.UnixMicro(rapid.Int64Range(1_000_000, lastMicros).Draw(t, "expires")).UTC()
}

func drawMapping(t *rapid.T) resource.Mapping {
	active, keepActive := drawSwitch(t, "active", true)
	m := resource.Mapping{KeepActive: keepActive, Mapping: mapping.Mapping{
		Issuer: token.IssuerURL(drawOptional(t, "issuer")),
		Claim:  rapid.SampledFrom([]string{"sub", "a.b", `https://x\.example/t`}).Draw(t, "claim"),
		Value:  drawText(t, "value"),
		Active: active, AutoRegistered: rapid.Bool().Draw(t, "registered"),
	}}
	if rapid.Bool().Draw(t, "by hash") {
		m.KeyID = drawID(t, "key")
	} else {
		m.KeyAlias = drawText(t, "alias")
	}
	return m
}
