package authz

import (
	"github.com/extauthz/extauthz/internal/ascii"
	"github.com/extauthz/extauthz/pkg/authz/wire"
	"github.com/extauthz/extauthz/pkg/teams"
)

// addMetadata adds the dynamic metadata of every answer. Its fields are top-level and stable: access
// logs name them, and Envoy's rate limit filter and Envoy Gateway read the limits.
func addMetadata(out *wire.Response, d *Decision) {
	out.Metadata()
	set := func(name, value string) {
		if value != "" && ascii.UTF8(value) { // anything else cannot be sent
			out.Text(name, value)
		}
	}
	if d.Allowed() {
		set("decision", "allow")
	} else {
		set("decision", "deny")
	}
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
		out.True("stale")
	}
	if d.Key != nil {
		addLimits(out, "key_rpm_limit", "key_tpm_limit", d.Key.Limits)
	}
	if d.Member.Team != nil {
		addLimits(out, "team_rpm_limit", "team_tpm_limit", d.Member.Team.Limits)
	}
}

// addLimits leaves the field of no limit out: 0 would be a limit of zero.
func addLimits(out *wire.Response, requests, tokens string, limits teams.Limits) {
	if limits.RPM != nil {
		out.Limit(requests, *limits.RPM)
	}
	if limits.TPM != nil {
		out.Limit(tokens, *limits.TPM)
	}
}
