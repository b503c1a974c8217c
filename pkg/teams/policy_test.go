package teams_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// directory is the rows of a test. An error other than nil is what every read returns.
type directory struct {
	teams map[teams.TeamID]*teams.Team
	orgs  map[teams.OrganizationID]*teams.Organization
	users map[teams.UserID]*teams.User
	err   error
}

func read[K comparable, V any](d directory, rows map[K]*V, id K) (*V, error) {
	if d.err != nil {
		return nil, d.err
	}
	row, found := rows[id]
	if !found {
		return nil, teams.ErrNotFound
	}
	return row, nil
}

func (d directory) Team(_ context.Context, id teams.TeamID) (*teams.Team, error) {
	return read(d, d.teams, id)
}

func (d directory) Organization(_ context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	return read(d, d.orgs, id)
}

func (d directory) User(_ context.Context, id teams.UserID) (*teams.User, error) {
	return read(d, d.users, id)
}

func (d directory) TeamByAlias(context.Context, string) (*teams.Team, error) {
	return nil, teams.ErrNotFound
}

func (d directory) OrganizationByAlias(context.Context, string) (*teams.Organization, error) {
	return nil, teams.ErrNotFound
}

func (d directory) Member(context.Context, teams.TeamID, teams.UserID) (bool, error) {
	return false, nil
}

func rows() directory {
	return directory{
		teams: map[teams.TeamID]*teams.Team{
			"a":       {ID: "a", OrganizationID: "acme"},
			"b":       {ID: "b", Models: []string{"gpt-4o*"}},
			"chat":    {ID: "chat", AllowedRoutes: []string{"/v1/chat/completions"}},
			"blocked": {ID: "blocked", Blocked: true},
			"closed":  {ID: "closed", OrganizationID: "closed"},
			"default": {ID: "default"},
		},
		orgs: map[teams.OrganizationID]*teams.Organization{
			"acme": {ID: "acme"}, "other": {ID: "other"}, "closed": {ID: "closed", Blocked: true},
		},
		users: map[teams.UserID]*teams.User{"mallory": {ID: "mallory", Blocked: true}},
	}
}

func newPolicy(t *testing.T, config teams.Config, d teams.Directory) *teams.Policy {
	t.Helper()
	p, err := teams.NewPolicy(config, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func chat(model string) teams.Request {
	return teams.Request{Method: "POST", Path: "/v1/chat/completions", Model: teams.Model{State: teams.ModelKnown, Name: model}}
}

func selecting(team teams.TeamID) teams.Request {
	r := chat("gpt-4o")
	r.Team = team
	return r
}

func TestTeamSelection(t *testing.T) {
	ids := func(list ...teams.TeamID) teams.Identity { return teams.Identity{TeamIDs: list, TeamExpected: true} }
	one := func(id teams.TeamID) teams.Identity { return teams.Identity{TeamID: id, TeamExpected: true} }
	withDefault := teams.Config{DefaultTeam: "default"}
	for name, c := range map[string]struct {
		config  teams.Config
		id      teams.Identity
		request teams.Request
		team    teams.TeamID
		err     error
	}{
		"the token's team":                      {id: one("a"), request: chat("x"), team: "a"},
		"the token's team wins over the list":   {id: teams.Identity{TeamID: "a", TeamIDs: []teams.TeamID{"b"}}, request: chat("gpt-4o"), team: "a"},
		"unknown":                               {id: one("nope"), request: chat("x"), err: teams.ErrTeamUnknown},
		"unknown does not become the default":   {config: withDefault, id: one("nope"), request: chat("x"), err: teams.ErrTeamUnknown},
		"blocked":                               {id: one("blocked"), request: chat("x"), err: teams.ErrTeamBlocked},
		"missing":                               {id: one(""), request: chat("x"), err: teams.ErrTeamMissing},
		"missing with a default":                {config: withDefault, id: one(""), request: chat("x"), team: "default"},
		"no team claim, no default":             {request: chat("x")},
		"model forbidden":                       {id: one("b"), request: chat("o1"), err: teams.ErrModelForbidden},
		"model unreadable":                      {id: one("b"), request: teams.Request{Method: "POST", Path: "/x"}, err: teams.ErrModelRequired},
		"no model on the route":                 {id: one("b"), request: teams.Request{Method: "GET", Path: "/x", Model: teams.Model{State: teams.ModelAbsent}}, team: "b"},
		"route forbidden":                       {id: one("chat"), request: teams.Request{Method: "POST", Path: "/v1/embeddings"}, err: teams.ErrRouteForbidden},
		"first of the list":                     {id: ids("a", "b"), request: chat("gpt-4o"), team: "a"},
		"first that permits":                    {id: ids("b", "a"), request: chat("o1"), team: "a"},
		"first that permits the route":          {id: ids("chat", "a"), request: teams.Request{Method: "POST", Path: "/v1/embeddings"}, team: "a"},
		"blocked ones are passed over":          {id: ids("blocked", "a"), request: chat("x"), team: "a"},
		"unknown ones are passed over":          {id: ids("hr", "everyone", "a"), request: chat("x"), team: "a"},
		"none permits: the first refusal":       {id: ids("b", "blocked"), request: chat("o1"), err: teams.ErrModelForbidden},
		"a refusal does not become the default": {config: withDefault, id: ids("b"), request: chat("o1"), err: teams.ErrModelForbidden},
		"a list that cannot be read, a default": {config: withDefault, id: teams.Identity{TeamsUnusable: true, TeamExpected: true}, request: chat("x"), err: teams.ErrTeamUnknown},
		"half unreadable, unknown, a default":   {config: withDefault, id: teams.Identity{TeamIDs: []teams.TeamID{"hr"}, TeamsUnusable: true}, request: chat("x"), err: teams.ErrTeamUnknown},
		"all unknown":                           {id: ids("hr"), request: chat("x"), err: teams.ErrTeamUnknown},
		"all unknown with a default":            {config: withDefault, id: ids("hr"), request: chat("x"), team: "default"},
		"selected from the list":                {id: ids("a", "b"), request: selecting("b"), team: "b"},
		"selected is the token's one":           {id: one("a"), request: selecting("a"), team: "a"},
		"selected another's":                    {id: ids("a"), request: selecting("b"), err: teams.ErrTeamNotMember},
		"selected with no team":                 {request: selecting("a"), err: teams.ErrTeamNotMember},
		"selected the default":                  {config: withDefault, id: ids("a"), request: selecting("default"), err: teams.ErrTeamNotMember},
		"blocked organization":                  {id: one("closed"), request: chat("x"), err: teams.ErrOrganizationBlocked},
		"unknown organization":                  {id: teams.Identity{OrganizationID: "nope"}, request: chat("x"), err: teams.ErrOrganizationUnknown},
		"organization of another tenant":        {id: teams.Identity{TeamID: "a", OrganizationID: "other"}, request: chat("x"), err: teams.ErrTeamNotMember},
		"blocked user":                          {id: teams.Identity{UserID: "mallory"}, request: chat("x"), err: teams.ErrUserBlocked},
		"user without a row":                    {id: teams.Identity{UserID: "alice", TeamID: "a"}, request: chat("x"), team: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			member, err := newPolicy(t, c.config, rows()).Place(t.Context(), &c.id, c.request)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || member.TeamID != c.team {
				t.Fatalf("got team %q, %v; want %q, %v", member.TeamID, err, c.team, c.err)
			}
			if err != nil && member != (teams.Membership{}) {
				t.Fatalf("a refusal came with a membership: %+v", member)
			}
		})
	}
}

// An outage is no answer about a team: it must not look like an unknown one, nor be passed over.
func TestDirectoryFailureIsNotAbsence(t *testing.T) {
	down := errors.New("down")
	d := rows()
	d.err = down
	policy := newPolicy(t, teams.Config{DefaultTeam: "default"}, d)
	for _, id := range []teams.Identity{
		{TeamID: "a"}, {TeamIDs: []teams.TeamID{"a", "b"}}, {}, {OrganizationID: "acme"}, {UserID: "alice"},
	} {
		if _, err := policy.Place(t.Context(), &id, chat("x")); !errors.Is(err, down) {
			t.Errorf("%+v: got %v, want the outage", id, err)
		}
	}
	if _, err := policy.Place(t.Context(), &teams.Identity{TeamIDs: []teams.TeamID{"a"}}, selecting("b")); !errors.Is(err, teams.ErrTeamNotMember) {
		t.Errorf("a team that the token does not list: got %v; it need not be looked up", err)
	}
}

// A part of the directory that cannot be read is asked about where it matters, and then it is an outage.
func TestPartOfTheDirectoryFails(t *testing.T) {
	down := errors.New("down")
	list := func(list ...teams.TeamID) teams.Identity { return teams.Identity{TeamIDs: list} }
	for name, c := range map[string]struct {
		config  teams.Config
		id      teams.Identity
		request teams.Request
		err     error
	}{
		"a team of the list, the next one permits": {id: list("chat", "a"), request: chat("x"), err: down},
		"the team that is asked for":               {config: teams.Config{ByAlias: true}, id: list("a"), request: selecting("chat"), err: down},
		"the team that an alias means":             {config: teams.Config{ByAlias: true}, id: list("chat"), request: selecting("b"), err: down},
		"who is in the team":                       {config: teams.Config{RequireMember: true}, id: teams.Identity{TeamID: "a", UserID: "alice"}, request: chat("x"), err: down},
		"the user":                                 {id: teams.Identity{TeamID: "a", UserID: "carol"}, request: chat("x"), err: down},
		"no user":                                  {id: teams.Identity{TeamID: "a"}, request: chat("x")},
		"the organization":                         {id: teams.Identity{TeamID: "default", OrganizationID: "other"}, request: chat("x"), err: down},
		"no organization":                          {id: teams.Identity{TeamID: "default"}, request: chat("x")},
	} {
		d := partlyDown{rows(), down}
		d.teams["b"].Alias = "chat"
		if _, err := newPolicy(t, c.config, d).Place(t.Context(), &c.id, c.request); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: got %v, want %v", name, err, c.err)
		}
	}
}

// partlyDown can read neither the team chat, nor who is in a team, nor the user carol, nor the organization other,
// nor who nobody is.
type partlyDown struct {
	directory
	down error
}

func (d partlyDown) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	if id == "chat" {
		return nil, d.down
	}
	return d.directory.Team(ctx, id)
}

func (d partlyDown) Member(context.Context, teams.TeamID, teams.UserID) (bool, error) {
	return true, d.down
}

func (d partlyDown) User(ctx context.Context, id teams.UserID) (*teams.User, error) {
	if id == "carol" || id == "" {
		return nil, d.down
	}
	return d.directory.User(ctx, id)
}

func (d partlyDown) Organization(ctx context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	if id == "other" || id == "" {
		return nil, d.down
	}
	return d.directory.Organization(ctx, id)
}

// Without a directory there are no rows, and none restricts.
func TestNoDirectory(t *testing.T) {
	policy := newPolicy(t, teams.Config{RequireMember: true}, nil)
	m, err := policy.Place(t.Context(), &teams.Identity{TeamID: "a", UserID: "alice", OrganizationID: "acme"}, chat("x"))
	if err != nil || m != (teams.Membership{TeamID: "a", UserID: "alice", OrganizationID: "acme"}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestAdmit(t *testing.T) {
	management := teams.Request{Method: "POST", Path: "/key/generate", Model: teams.Model{State: teams.ModelAbsent}}
	roles := teams.Config{Roles: []teams.Grant{
		{Name: "user", Routes: []string{"openai_routes"}, Models: []string{"gpt-4o*"}},
		{Name: "operator", Routes: []string{"POST /key/*"}},
		{Name: "anything"},
	}}
	scopes := teams.Config{Scopes: []teams.Grant{
		{Name: "llm:chat", Routes: []string{"/v1/chat/completions"}}, {Name: "llm:keys", Routes: []string{"POST /key/*"}},
	}, AdminScope: "admin"}
	domains := teams.Config{EmailDomains: []string{"Corp.example.com", "x@corp.example.com"}, AdminScope: "admin"}
	held := func(roles ...string) teams.Identity { return teams.Identity{Roles: roles} }
	scoped := func(scopes ...string) teams.Identity { return teams.Identity{Scopes: scopes} }
	for name, c := range map[string]struct {
		config  teams.Config
		id      teams.Identity
		request teams.Request
		err     error
	}{
		"no policy":                          {request: chat("x")},
		"no policy, admin route":             {request: management, err: teams.ErrRouteForbidden},
		"role held":                          {roles, held("user"), chat("gpt-4o-mini"), nil},
		"role not held":                      {roles, held("guest"), chat("gpt-4o"), teams.ErrRoleMissing},
		"role of another case":               {roles, held("User"), chat("gpt-4o"), teams.ErrRoleMissing},
		"role without the model":             {roles, held("user"), chat("o1"), teams.ErrModelForbidden},
		"role without the route":             {roles, held("operator"), chat("gpt-4o"), teams.ErrRouteForbidden},
		"the error of the role that is near": {roles, held("operator", "user"), chat("o1"), teams.ErrModelForbidden},
		"a second role permits":              {roles, held("user", "anything"), chat("o1"), nil},
		"an admin route granted by name":     {roles, held("operator"), management, nil},
		"an unrestricted role names nothing": {roles, held("anything"), management, teams.ErrRouteForbidden},
		"admin route, unknown method":        {request: teams.Request{Method: "PROPFIND", Path: "/key/generate"}, err: teams.ErrRouteForbidden},
		"admin route, lower-case method":     {request: teams.Request{Method: "post", Path: "/key/generate"}, err: teams.ErrRouteForbidden},
		"another route, unknown method":      {request: teams.Request{Method: "PROPFIND", Path: "/v1/x"}},
		"a claim that identifies nobody":     {roles, teams.Identity{Roles: []string{"user"}, Unusable: "sub"}, chat("gpt-4o"), teams.ErrIdentityUnusable},
		"scope held":                         {scopes, scoped("llm:chat"), chat("x"), nil},
		"scope not held":                     {scopes, scoped("llm"), chat("x"), teams.ErrScopeMissing},
		"an admin route that a scope names":  {scopes, scoped("llm:keys"), management, nil},
		"an empty scope, no admins":          {teams.Config{}, scoped(""), management, teams.ErrRouteForbidden},
		"admin on an admin route":            {scopes, scoped("admin"), management, nil},
		"admin on another route":             {scopes, scoped("admin", "llm:chat"), chat("x"), teams.ErrRouteForbidden},
		"domain, other case":                 {domains, teams.Identity{Email: "a@CORP.example.COM"}, chat("x"), nil},
		"domain of another":                  {domains, teams.Identity{Email: "a@example.com"}, chat("x"), teams.ErrEmailDomain},
		"subdomain":                          {domains, teams.Identity{Email: "a@x.corp.example.com"}, chat("x"), teams.ErrEmailDomain},
		"two @":                              {domains, teams.Identity{Email: "a@evil.com@corp.example.com"}, chat("x"), teams.ErrEmailDomain},
		"two @, as in the list":              {domains, teams.Identity{Email: "a@x@corp.example.com"}, chat("x"), teams.ErrEmailDomain},
		"no local part":                      {domains, teams.Identity{Email: "@corp.example.com"}, chat("x"), teams.ErrEmailDomain},
		"no email":                           {domains, teams.Identity{}, chat("x"), teams.ErrEmailDomain},
		"unverified":                         {domains, teams.Identity{Email: "a@corp.example.com", EmailUnverified: true}, chat("x"), teams.ErrEmailDomain},
		"an admin's domain counts too":       {domains, teams.Identity{Email: "a@evil.com", Scopes: []string{"admin"}}, management, teams.ErrEmailDomain},
	} {
		t.Run(name, func(t *testing.T) {
			err := newPolicy(t, c.config, rows()).Admit(t.Context(), &c.id, c.request)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
		})
	}
}

// A direct key holds no role and no scope: nothing opens the admin routes to it.
func TestAdmitKey(t *testing.T) {
	policy := newPolicy(t, teams.Config{AdminRoutes: []string{"/admin"}, Roles: []teams.Grant{{Name: "", Routes: []string{"/admin"}}}}, nil)
	if err := policy.AdmitKey(teams.Request{Method: "GET", Path: "/admin"}); !errors.Is(err, teams.ErrRouteForbidden) {
		t.Errorf("an admin route: %v", err)
	}
	if err := policy.AdmitKey(chat("x")); err != nil {
		t.Errorf("any other route: %v", err)
	}
}

func TestPublic(t *testing.T) {
	for name, c := range map[string]struct {
		routes []string
		public bool
	}{
		"none": {nil, false}, "this one": {[]string{"POST /v1/chat/completions"}, true}, "another": {[]string{"GET /v1/chat/completions"}, false},
	} {
		if got := newPolicy(t, teams.Config{PublicRoutes: c.routes}, nil).Public(chat("x")); got != c.public {
			t.Errorf("%s: public %v", name, got)
		}
	}
}

// The Kelvin sign folds to k: a domain with it must not pass for the one with k.
func TestEmailDomainIsNotUnicodeFolded(t *testing.T) {
	policy := newPolicy(t, teams.Config{EmailDomains: []string{"kiosk.example"}}, nil)
	if err := policy.Admit(t.Context(), &teams.Identity{Email: "a@\u212Aiosk.example"}, chat("x")); !errors.Is(err, teams.ErrEmailDomain) {
		t.Fatalf("got %v, want %v", err, teams.ErrEmailDomain)
	}
}

func TestIdentify(t *testing.T) {
	path := func(text string) token.Path {
		p, err := token.ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	paths := teams.ClaimPaths{
		UserID: path("sub"), Email: path("email"), TeamID: path("team"), TeamIDs: path("groups"),
		OrganizationID: path("org"), Roles: path("realm_access.roles"), Scopes: path("scope"),
	}
	id := paths.Identify(token.Claims{Issuer: "https://idp", Values: map[string]any{
		"sub": "alice", "email": 7, "team": "", "groups": []any{"a", 1, "", "b", "x\ny", " c"}, "org": "acme",
		"realm_access": map[string]any{"roles": []any{"user"}}, "scope": "read  write", "email_verified": "false",
	}})
	if id.UserID != "alice" || id.Email != "" || id.TeamID != "" || id.OrganizationID != "acme" {
		t.Errorf("identity: %+v", id)
	}
	if len(id.TeamIDs) != 2 || id.TeamIDs[0] != "a" || id.TeamIDs[1] != "b" {
		t.Errorf("teams: %q", id.TeamIDs)
	}
	if len(id.Roles) != 1 || len(id.Scopes) != 2 || !id.TeamExpected || !id.EmailUnverified {
		t.Errorf("identity: %+v", id)
	}
	if id.Unusable != "" || !id.TeamsUnusable {
		t.Errorf("identity: %+v", id)
	}
	for claim, value := range map[string]any{
		"sub": " alice", "org": []any{"acme"}, "team": map[string]any{"id": "a"}, "team ": nil,
	} {
		odd := paths.Identify(token.Claims{Values: map[string]any{claim: value}})
		if want := value != nil; (odd.Unusable != "") != want || odd.UserID != "" || odd.OrganizationID != "" || odd.TeamID != "" {
			t.Errorf("%s %v: %+v", claim, value, odd)
		}
	}
	if spaced := paths.Identify(token.Claims{Values: map[string]any{"email": "alice@corp.example.com "}}); spaced.Email != "" {
		t.Errorf("an email with a space at its end: %q", spaced.Email)
	}
	groups := make([]any, 201)
	for n := range groups {
		groups[n] = strconv.Itoa(n)
	}
	if many := paths.Identify(token.Claims{Values: map[string]any{"groups": groups}}); len(many.TeamIDs) != 200 || !many.TeamsUnusable {
		t.Errorf("%d teams of 201, unusable %v", len(many.TeamIDs), many.TeamsUnusable)
	}
	roleText := paths.Identify(token.Claims{Values: map[string]any{"realm_access": map[string]any{"roles": "admin user"}}})
	if len(roleText.Roles) != 1 || roleText.Roles[0] != "admin user" {
		t.Errorf("a roles string was taken apart: %q", roleText.Roles)
	}
}

func TestLists(t *testing.T) {
	one, several := teams.Identity{TeamID: "a", TeamIDs: []teams.TeamID{"b"}}, teams.Identity{TeamIDs: []teams.TeamID{"b", "c"}}
	if !one.Lists("a") || !one.Lists("b") || one.Lists("c") || one.Lists("") || !several.Lists("c") || several.Lists("a") || several.Lists("") {
		t.Error("a token names its one team, those of its list, and no other")
	}
}

func TestModelPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, model string
		ok             bool
	}{
		{"gpt-4o", "gpt-4o", true}, {"gpt-4o", "gpt-4o-mini", false}, {"gpt-4o", "GPT-4o", false},
		{"gpt-4o*", "gpt-4o", true}, {"gpt-4o*", "gpt-4o-mini", true}, {"gpt-4o*", "gpt-4", false}, {"gpt-4o*", "o1-preview", false},
		{"*", "anything", true}, {"*-mini", "gpt-4o-mini", true}, {"*-mini", "gpt-4o-mini-2", false},
		{"a*b*c", "a1b2c", true}, {"a*b*c", "abc", true}, {"a*b*c", "acb", false}, {"a*b*c", "axc", false}, {"ab*ba", "aba", false},
		{"openai/*", "openai/gpt-4o", true}, {"gpt.4o", "gptx4o", false}, {"", "x", false},
	} {
		policy := newPolicy(t, teams.Config{}, nil)
		if err := policy.Permit(nil, []string{c.pattern}, chat(c.model)); (err == nil) != c.ok {
			t.Errorf("%q permits %q: %v", c.pattern, c.model, err)
		}
	}
}
