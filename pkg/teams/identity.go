package teams

import (
	"strings"

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
	UserID         UserID
	Email          string
	TeamID         TeamID   // the caller's one team; wins over TeamIDs
	TeamIDs        []TeamID // in token order, the first 200
	OrganizationID OrganizationID
	Roles          []string
	Scopes         []string
	// TeamExpected says that the issuer's tokens are configured to carry a team.
	TeamExpected bool
	// EmailUnverified says that the token has an email_verified claim other than true.
	EmailUnverified bool
}

// Identify reads the identity from verified claims.
func (p ClaimPaths) Identify(claims token.Claims) Identity {
	id := Identity{
		Issuer:          claims.Issuer,
		Roles:           claims.List(p.Roles),
		Scopes:          claims.Words(p.Scopes),
		TeamExpected:    p.TeamID.String() != "" || p.TeamIDs.String() != "",
		EmailUnverified: emailUnverified(claims),
	}
	id.UserID = UserID(headerText(claims, p.UserID))
	id.TeamID = TeamID(headerText(claims, p.TeamID))
	id.OrganizationID = OrganizationID(headerText(claims, p.OrganizationID))
	id.Email = headerText(claims, p.Email)
	listed := claims.List(p.TeamIDs)
	for _, team := range listed[:min(len(listed), maxTeams)] {
		if strings.TrimSpace(team) == team {
			id.TeamIDs = append(id.TeamIDs, TeamID(team))
		}
	}
	return id
}

// headerText returns a usable claim value that can also be a header's: HTTP drops spaces around one, so
// what reached the upstream would be another identity. Such a value counts as missing.
func headerText(claims token.Claims, p token.Path) string {
	text, _ := claims.Text(p)
	if strings.TrimSpace(text) != text {
		return ""
	}
	return text
}

// emailUnverified reads email_verified (OpenID Connect Core section 5.1). Some issuers send it as
// text; anything but true counts as not verified, an absent claim does not.
func emailUnverified(claims token.Claims) bool {
	value, present := claims.Values["email_verified"]
	return present && value != true && value != "true"
}

// memberOf reports whether the token itself lists the team.
func (id Identity) memberOf(team TeamID) bool {
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
	if !found || local == "" || strings.Contains(domain, "@") || strings.ContainsFunc(domain, func(r rune) bool { return r >= 0x80 }) {
		return ""
	}
	return strings.ToLower(domain)
}
