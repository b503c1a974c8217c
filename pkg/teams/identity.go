package teams

import (
	"strings"

	"github.com/extauthz/extauthz/internal/ascii"
	"github.com/extauthz/extauthz/pkg/token"
)

// maxTeams bounds the teams of one token that are looked up. It is the most groups that Microsoft
// Entra ID puts into a token; a longer list would let one request ask the store for thousands.
const maxTeams = 200

// ClaimPaths says where one issuer's tokens carry the identity. The zero Path of a field means that
// the issuer's tokens do not carry it.
type ClaimPaths struct {
	UserID         token.Path
	Email          token.Path
	TeamID         token.Path
	TeamIDs        token.Path
	OrganizationID token.Path
	Roles          token.Path
	Scopes         token.Path
}

// Identity is who a verified token says the caller is. Unusable claim values count as missing.
type Identity struct {
	Issuer         token.IssuerURL
	Claims         token.Claims // what the rest was read from; for rules
	UserID         UserID
	Email          string
	TeamID         TeamID   // the caller's one team; wins over TeamIDs
	TeamIDs        []TeamID // in token order, the first 200
	OrganizationID OrganizationID
	Roles          []string
	Scopes         []string
	// TeamExpected says that the issuer's tokens are configured to carry a team.
	TeamExpected bool
	// Unusable names the first claim that is there and identifies nobody: a number, a list where one text is
	// expected, a text with control characters or with spaces around it. Its absence would mean less
	// restriction, so it must not count as that.
	Unusable string
	// TeamsUnusable says that the token lists something that cannot be a team.
	TeamsUnusable bool
	// EmailUnverified says that the token has an email_verified claim other than true.
	EmailUnverified bool
}

// Identify reads the identity from verified claims.
func (p ClaimPaths) Identify(claims token.Claims) Identity {
	id := Identity{
		Issuer:          claims.Issuer,
		Claims:          claims,
		Roles:           claims.List(p.Roles),
		Scopes:          claims.Words(p.Scopes),
		TeamExpected:    p.TeamID.String() != "" || p.TeamIDs.String() != "",
		EmailUnverified: emailUnverified(claims),
	}
	id.UserID = UserID(id.text(claims, p.UserID))
	id.TeamID = TeamID(id.text(claims, p.TeamID))
	id.OrganizationID = OrganizationID(id.text(claims, p.OrganizationID))
	id.Email, _ = claims.Text(p.Email)
	if strings.TrimSpace(id.Email) != id.Email {
		id.Email = ""
	}
	id.listTeams(claims, p.TeamIDs)
	return id
}

// text returns the claim's text, and notes a claim that is there and is none. HTTP drops spaces around a
// header's value, so a text with them would reach the upstream as another identity.
func (id *Identity) text(claims token.Claims, p token.Path) string {
	value, present := claims.Lookup(p)
	text, _ := claims.Text(p)
	if present && value != "" && (text == "" || strings.TrimSpace(text) != text) {
		if id.Unusable == "" {
			id.Unusable = p.String()
		}
		return ""
	}
	return text
}

// listTeams reads the list of teams and notes whether all of it could be read.
func (id *Identity) listTeams(claims token.Claims, p token.Path) {
	value, present := claims.Lookup(p)
	stated := 1
	if elements, ok := value.([]any); ok {
		stated = len(elements)
	}
	if !present || value == "" {
		return
	}
	for _, team := range claims.List(p) {
		if strings.TrimSpace(team) == team && len(id.TeamIDs) < maxTeams {
			id.TeamIDs = append(id.TeamIDs, TeamID(team))
		}
	}
	id.TeamsUnusable = len(id.TeamIDs) < stated
}

// emailUnverified reads email_verified (OpenID Connect Core section 5.1). Some issuers send it as
// text; anything but true counts as not verified, an absent claim does not.
func emailUnverified(claims token.Claims) bool {
	value, present := claims.Values["email_verified"]
	return present && value != true && value != "true"
}

// Lists reports whether the token itself names the team.
func (id *Identity) Lists(team TeamID) bool {
	if team == "" {
		return false
	}
	if id.TeamID == team {
		return true
	}
	for _, listed := range id.TeamIDs {
		if listed == team {
			return true
		}
	}
	return false
}

// emailDomain returns the lower-case part after the one @ of an address, or "". A domain outside
// ASCII is none: Unicode case folding would make distinct domains equal (K, the Kelvin sign, folds
// to k), and mail systems use the xn-- form.
func emailDomain(email string) string {
	local, domain, found := strings.Cut(email, "@")
	if !found || local == "" || strings.Contains(domain, "@") || !ascii.Only(domain) {
		return ""
	}
	return strings.ToLower(domain)
}
