package authz

import (
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func noAppend() *wrapperspb.BoolValue { return wrapperspb.Bool(false) }

// metadata is the dynamic metadata of every answer. Its fields are top-level and stable: access
// logs name them, and Envoy's rate limit filter and Envoy Gateway read the limits.
func metadata(d *Decision) *structpb.Struct {
	decision := "deny"
	if d.Allowed() {
		decision = "allow"
	}
	fields := map[string]*structpb.Value{}
	set := func(name, value string) {
		if value != "" && utf8.ValidString(value) { // anything else fails to marshal
			fields[name] = structpb.NewStringValue(value)
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
		fields["stale"] = structpb.NewBoolValue(true)
	}
	key, team := limitsOf(d)
	setLimit(fields, "key_rpm_limit", key.RPM)
	setLimit(fields, "key_tpm_limit", key.TPM)
	setLimit(fields, "team_rpm_limit", team.RPM)
	setLimit(fields, "team_tpm_limit", team.TPM)
	return &structpb.Struct{Fields: fields}
}

// setLimit writes a limit in the form of Envoy's RateLimit.Override. No limit leaves the field out:
// 0 would be a limit of zero.
func setLimit(fields map[string]*structpb.Value, name string, perMinute *int64) {
	if perMinute == nil {
		return
	}
	fields[name] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"requests_per_unit": structpb.NewNumberValue(float64(*perMinute)),
		"unit":              structpb.NewStringValue("MINUTE"),
	}})
}
