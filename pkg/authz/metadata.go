package authz

import (
	"unicode/utf8"

	"github.com/extauthz/extauthz/pkg/authz/wire"
)

// metadata is the dynamic metadata of every answer. Its fields are top-level and stable: access
// logs name them, and Envoy's rate limit filter and Envoy Gateway read the limits.
func metadata(d *Decision) []wire.Field {
	decision := "deny"
	if d.Allowed() {
		decision = "allow"
	}
	fields := make([]wire.Field, 0, 14)
	set := func(name, value string) {
		if value != "" && utf8.ValidString(value) { // anything else fails to marshal
			fields = append(fields, wire.Field{Name: name, Text: value})
		}
	}
	set("decision", decision)
	set("reason", string(d.Outcome.Reason))
	set("decision_id", d.ID)
	set("shadow_reason", string(d.Shadowed))
	set("source", string(d.Source))
	set("model", d.Request.Model.Name)
	if d.Key != nil {
		set("key", string(d.Key.ID))
	}
	set("team", string(d.Member.TeamID))
	set("user", string(d.Member.UserID))
	set("org", string(d.Member.OrganizationID))
	if d.Stale {
		fields = append(fields, wire.Field{Name: "stale", Kind: wire.True})
	}
	// No limit leaves its field out: 0 would be a limit of zero.
	limit := func(name string, perMinute *int64) {
		if perMinute != nil {
			fields = append(fields, wire.Field{Name: name, Kind: wire.Limit, PerMinute: *perMinute})
		}
	}
	key, team := limitsOf(d)
	limit("key_rpm_limit", key.RPM)
	limit("key_tpm_limit", key.TPM)
	limit("team_rpm_limit", team.RPM)
	limit("team_tpm_limit", team.TPM)
	return fields
}
