package resource_test

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

const (
	secret = "sk-0123456789abcdef"
	hash   = "221df437bc4f8c4d9718bd7a9ec4c1021c72fd69dfb2a5f568ecf4607c824bee" // of secret
)

func ptr[T any](v T) *T { return &v }

// fileOfSpec is the example of the contract, SPEC §6.
const fileOfSpec = `
organizations: [{id: acme, max_budget: 1000}]
teams:    [{id: team-a, alias: A, organization_id: acme, models: ["gpt-4o*"], allowed_routes: [openai_routes], blocked: false, max_budget: 100, spend: 0, rpm_limit: 60, tpm_limit: 100000}]
users:    [{id: alice, email: alice@corp.example.com, blocked: false}]
keys:     [{alias: alice-key, secret: sk-0123456789abcdef, team_id: team-a, user_id: alice, models: [], allowed_routes: [], expires_at: 2027-01-01T00:00:00Z, blocked: false}]   # or hash: instead of secret:
mappings: [{issuer: "", claim: sub, value: alice, key: alice-key, active: true}]   # key: an alias or a hash
`

func setOfSpec() *resource.Set {
	return &resource.Set{
		Organizations: []resource.Organization{{
			Organization: teams.Organization{ID: "acme", Budget: teams.Budget{Max: ptr(teams.Micros(1_000_000_000))}},
			KeepSpend:    true, KeepBlocked: true,
		}},
		Teams: []resource.Team{{Team: teams.Team{
			ID: "team-a", Alias: "A", OrganizationID: "acme", Models: []string{"gpt-4o*"}, AllowedRoutes: []string{"openai_routes"},
			Budget: teams.Budget{Max: ptr(teams.Micros(100_000_000))},
			Limits: teams.Limits{RPM: ptr(int64(60)), TPM: ptr(int64(100_000))},
		}}},
		Users: []resource.User{{User: teams.User{ID: "alice", Email: "alice@corp.example.com"}, KeepSpend: true}},
		Keys: []resource.Key{{
			Key: keys.Key{
				ID: hash, Alias: "alice-key", TeamID: "team-a", UserID: "alice", ExpiresAt: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
			},
			KeepSpend: true, KeepJWTOnly: true,
			Secret: "sk-0123456789abcdef",
		}},
		Mappings: []resource.Mapping{{Mapping: mapping.Mapping{Claim: "sub", Value: "alice", Active: true}, KeyAlias: "alice-key"}},
	}
}

func parse(t *testing.T, data string) (*resource.Set, *resource.Locator) {
	t.Helper()
	set, locator, err := resource.Parse("r.yaml", []byte(data))
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, data)
	}
	return set, locator
}

func TestParse(t *testing.T) {
	set, _ := parse(t, fileOfSpec)
	if want := setOfSpec(); !reflect.DeepEqual(set, want) {
		t.Errorf("got %+v\nwant %+v", set, want)
	}
}

// TestExampleOfReference keeps the example in docs/configuration.md right.
func TestExampleOfReference(t *testing.T) {
	data, err := os.ReadFile("../config/testdata/resources.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set, _ := parse(t, string(data))
	if got := *set.Teams[0].Budget.Max; got != 100_500_000 || set.Teams[0].KeepSpend || !set.Users[0].KeepSpend {
		t.Errorf("got %+v", set)
	}
}

// What a file does not state is not the same as its zero value, where a row that exists keeps it.
func TestParseTellsWhatIsNotStated(t *testing.T) {
	set, _ := parse(t, "organizations: [{id: o}]\nteams: [{id: t}]\nusers: [{id: u}]\nkeys: [{hash: "+hash+"}]\nmappings: [{claim: sub, value: a, key: k}]\n")
	want := &resource.Set{
		Organizations: []resource.Organization{{Organization: teams.Organization{ID: "o"}, KeepSpend: true, KeepBlocked: true}},
		Teams:         []resource.Team{{Team: teams.Team{ID: "t"}, KeepSpend: true, KeepBlocked: true}},
		Users:         []resource.User{{User: teams.User{ID: "u"}, KeepSpend: true, KeepBlocked: true}},
		Keys:          []resource.Key{{Key: keys.Key{ID: hash}, KeepSpend: true, KeepBlocked: true, KeepJWTOnly: true}},
		Mappings:      []resource.Mapping{{Mapping: mapping.Mapping{Claim: "sub", Value: "a", Active: true}, KeyAlias: "k", KeepActive: true}},
	}
	if !reflect.DeepEqual(set, want) {
		t.Errorf("nothing stated: got %+v\nwant %+v", set, want)
	}
	set, _ = parse(t, "organizations: [{id: o, spend: 0, blocked: false}]\nteams: [{id: t, spend: 0, blocked: false, members: []}]\nusers: [{id: u, spend: 0, blocked: false}]\n"+
		"keys: [{hash: "+hash+", spend: 0, blocked: false, jwt_only: false}]\nmappings: [{claim: sub, value: a, key: k, active: true}]\n")
	want = &resource.Set{
		Organizations: []resource.Organization{{Organization: teams.Organization{ID: "o"}}},
		Teams:         []resource.Team{{Team: teams.Team{ID: "t"}, Members: []teams.UserID{}}},
		Users:         []resource.User{{User: teams.User{ID: "u"}}},
		Keys:          []resource.Key{{Key: keys.Key{ID: hash}}},
		Mappings:      []resource.Mapping{{Mapping: mapping.Mapping{Claim: "sub", Value: "a", Active: true}, KeyAlias: "k"}},
	}
	if !reflect.DeepEqual(set, want) {
		t.Errorf("everything stated: got %+v\nwant %+v", set, want)
	}
}

func TestParseAccepts(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":               "",
		"only a comment":        "# none\n",
		"a document mark":       "---\n",
		"empty sections":        "teams: []\nkeys: []\n",
		"a key without a name":  "keys: [{hash: " + hash + "}]",
		"the other hash":        "mappings: [{claim: sub, value: a, key: " + hash + "}]",
		"quoted amounts":        `users: [{id: a, spend: "1.5"}]`,
		"a name like a number":  "users: [{id: 007}, {id: 7}, {id: 7.0}, {id: true}]",
		"a path with a dot":     `mappings: [{claim: 'https://x\.example/team', value: a, key: k}]`,
		"an offset":             "keys: [{hash: " + hash + ", expires_at: 2027-01-01T02:00:00.000001+02:00}]",
		"issuer and any issuer": "mappings: [{claim: s, value: a, key: k}, {issuer: https://a.example, claim: s, value: a, key: k}]",
		"variables are text":    "users: [{id: '${HOME}'}]",
		"an id and an alias":    "keys: [{hash: " + hash + ", alias: a}]\nteams: [{id: a}]\nusers: [{id: a}]",
	} {
		t.Run(name, func(t *testing.T) { parse(t, data) })
	}
}

func TestParseReadsTimesInUTC(t *testing.T) {
	set, _ := parse(t, "keys: [{hash: "+hash+", expires_at: 2027-01-01T02:00:00.5+02:00}]")
	if got := set.Keys[0].ExpiresAt; got != time.Date(2027, 1, 1, 0, 0, 0, 500_000_000, time.UTC) {
		t.Errorf("got %v", got)
	}
}

// TestRefused has a file and its exact error, with the file's name left out, on each line.
func TestRefused(t *testing.T) {
	const name, allowedSecret, amount = "text of 1 to 1024 bytes", "; allowed: sk- and more, 16 to 1024 characters", "; allowed: a decimal number from 0 to 9000000000 with at most 6 decimals"
	long := strings.Repeat("x", 1025)
	tests := []struct{ data, want string }{
		{"team: []", "1:1: team: unknown key; allowed: the keys organizations, teams, users, keys, mappings"},
		{"users: [{id: a}, {id: a}]", "1:23: users[1].id: is the id of an earlier user; allowed: each once"},
		{"teams: [{id: a}, {id: a}]", "1:23: teams[1].id: is the id of an earlier team; allowed: each once"},
		{"organizations:\n- id: a\n- alias: x\n  id: a\n", "4:7: organizations[1].id: is the id of an earlier organization; allowed: each once"},
		{"users: [{email: a@b}]", "1:9: users[0].id: is missing; allowed: " + name},
		{"users: [{id: ''}]", "1:14: users[0].id: is empty; allowed: " + name},
		{"users: [{id: " + long + "}]", "1:14: users[0].id: the value is not allowed; allowed: " + name},
		{"users: [{id: \"a\\tb\"}]", "1:14: users[0].id: contains a control character or a line break; allowed: " + name},
		{"users: [{id: \"a\\u2028b\"}]", "1:14: users[0].id: contains a control character or a line break; allowed: " + name},
		{"users: [{id: null}]", "1:14: users[0].id: has no value; allowed: " + name + "; or leave the key out"},
		{"users: [{id: a, blocked: no}]", `1:26: users[0].blocked: "no" is not true or false; allowed: true, false`},
		{"users: [{id: a, max_budget: -1}]", `1:29: users[0].max_budget: "-1" is not allowed` + amount},
		{"users: [{id: a, max_budget: .nan}]", `1:29: users[0].max_budget: ".nan" is not allowed` + amount},
		{"users: [{id: a, max_budget: .inf}]", `1:29: users[0].max_budget: ".inf" is not allowed` + amount},
		{"users: [{id: a, max_budget: 0.0000001}]", `1:29: users[0].max_budget: "0.0000001" is not allowed` + amount},
		{"users: [{id: a, max_budget: 9000000000.000001}]", `1:29: users[0].max_budget: "9000000000.000001" is not an amount` + amount},
		{"users: [{id: a, spend: 1e3}]", `1:24: users[0].spend: "1e3" is not allowed` + amount},
		{"users: [{id: a, spend: ''}]", `1:24: users[0].spend: "" is not allowed` + amount},
		{"teams: [{id: a, rpm_limit: -1}]", `1:28: teams[0].rpm_limit: "-1" is out of range; allowed: a whole number, at least 0`},
		{"teams: [{id: a, tpm_limit: 1.5}]", `1:28: teams[0].tpm_limit: "1.5" is not a whole number; allowed: a whole number, at least 0`},
		{"teams: [{id: a, models: ['']}]", "1:26: teams[0].models[0]: is empty; allowed: " + name},
		{"keys: [{alias: a}]", "1:8: keys[0]: has neither secret nor hash; allowed: exactly one of the two"},
		{"keys: [{secret: " + secret + ", hash: " + hash + "}]", "1:8: keys[0]: has both secret and hash; allowed: exactly one of the two"},
		{"keys: [{secret: sk-012345678901}]", "1:17: keys[0].secret: the value is not allowed" + allowedSecret},
		{"keys: [{secret: pk-0123456789abcdef}]", "1:17: keys[0].secret: the value is not allowed" + allowedSecret},
		{"keys: [{secret: [" + secret + "]}]", "1:17: keys[0].secret: a list where a single value is expected" + allowedSecret},
		{"keys: [{secret: sk-" + long + "}]", "1:17: keys[0].secret: the value is not allowed" + allowedSecret},
		{"keys: [{hash: " + strings.ToUpper(hash) + "}]", `1:15: keys[0].hash: "` + strings.ToUpper(hash) + `" is not allowed; allowed: 64 lower-case hexadecimal digits`},
		{"keys: [{hash: " + hash + "}, {alias: b, secret: " + secret + "}]", "1:101: keys[1].secret: is the same key as an earlier one; allowed: each once"},
		{"keys: [{alias: a, secret: sk-0123456789abcdeg}, {alias: a, hash: " + hash + "}]", "1:57: keys[1].alias: is the alias of an earlier key; allowed: each once"},
		{"keys: [{alias: " + hash + ", secret: " + secret + "}]", "1:16: keys[0].alias: looks like a hash, which a mapping could not tell from one; allowed: any other name"},
		{"keys: [{hash: " + hash + ", expires_at: 2027-01-01}]", `1:93: keys[0].expires_at: "2027-01-01" is not an RFC 3339 time; allowed: a time such as 2027-01-31T00:00:00Z`},
		{"keys: [{hash: " + hash + ", expires_at: 0001-01-01T00:00:00Z}]", `1:93: keys[0].expires_at: "0001-01-01T00:00:00Z" is not a time that can be kept; allowed: a time from 1970 to 9999, in whole microseconds`},
		{"keys: [{hash: " + hash + ", expires_at: 2027-01-01T00:00:00.0000001Z}]", `1:93: keys[0].expires_at: "2027-01-01T00:00:00.0000001Z" is not a time that can be kept; allowed: a time from 1970 to 9999, in whole microseconds`},
		{"mappings: [{value: a, key: k}]", "1:12: mappings[0].claim: is missing; allowed: names joined by dots, with a backslash before a dot or backslash that is part of a name"},
		{"mappings: [{claim: a..b, value: a, key: k}]", `1:20: mappings[0].claim: "a..b" is not a claim path; allowed: names joined by dots, with a backslash before a dot or backslash that is part of a name`},
		{"mappings: [{claim: a, key: k}]", "1:12: mappings[0].value: is missing; allowed: " + name},
		{"mappings: [{claim: a, value: v}]", "1:12: mappings[0].key: is missing; allowed: " + name},
		{"mappings: [{claim: a, value: v, key: k}, {claim: a, value: v, key: l, active: false}]", "1:42: mappings[1]: has the issuer, claim and value of an earlier mapping; allowed: each once"},
		{"users: [{id: a}]\n---\nusers: []", "2:1: document: a second YAML document; allowed: one document"},
		{"x: &x [a]\nusers: *x", "1:1: x: unknown key; allowed: the keys organizations, teams, users, keys, mappings"},
		{"users: [{id: a}", "1:1: document: is not YAML: did not find expected ',' or ']'; allowed: one YAML mapping"},
	}
	for _, test := range tests {
		_, _, err := resource.Parse("r.yaml", []byte(test.data))
		if err == nil || err.Error() != "r.yaml:"+test.want {
			t.Errorf("%s\n got %v\nwant r.yaml:%s", test.data, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestParseRefusesHugeFile(t *testing.T) {
	_, _, err := resource.Parse("r.yaml", make([]byte, resource.MaxFileBytes+1))
	if err == nil || err.Error() != "r.yaml:1:1: document: the file is too large; allowed: at most 64 MiB" {
		t.Errorf("got %v", err)
	}
}

// TestLocator shows where an error of the store, which knows no lines, is in the file.
func TestLocator(t *testing.T) {
	_, locator := parse(t, fileOfSpec)
	for want, fault := range map[string]*resource.Error{
		"r.yaml:3:52: teams[0].organization_id: no such organization": {Section: "teams", Field: "organization_id", Reason: "no such organization"},
		"r.yaml:5:12: keys[0].organization_id: no such organization":  {Section: "keys", Field: "organization_id", Reason: "no such organization"},
		"r.yaml:6:12: mappings[0]: in the way":                        {Section: "mappings", Reason: "in the way"},
		"r.yaml:4:11: users[7]: not there":                            {Section: "users", Index: 7, Reason: "not there"},
	} {
		if got := locator.Locate(fault).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if other := os.ErrDeadlineExceeded; !errors.Is(locator.Locate(other), other) {
		t.Error("changed an error that is not about a resource")
	}
}
