package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// stated are the defaults that the product promises. A change here is a change for operators.
func stated() map[string]string {
	return map[string]string{
		"server.address":                          "127.0.0.1:9001",
		"server.socket_mode":                      "0660",
		"server.check_timeout":                    "400ms",
		"server.max_message_bytes":                "4194304",
		"server.max_concurrent_streams":           "1000",
		"server.max_connection_age":               "30m",
		"server.max_connections":                  "4096",
		"server.drain_timeout":                    "20s",
		"server.drain_delay":                      "5s",
		"server.reflection":                       "false",
		"telemetry.address":                       "127.0.0.1:9003",
		"store.url":                               "sqlite:extauthz.db",
		"store.timeout":                           "300ms",
		"store.max_connections":                   "10",
		"cache.ttl":                               "30s",
		"cache.max_bytes":                         "134217728",
		"cache.max_absent_bytes":                  "8388608",
		"cache.max_token_bytes":                   "67108864",
		"issuers[].algorithms":                    "[RS256, ES256, EdDSA]",
		"issuers[].leeway":                        "30s",
		"issuers[].max_lifetime":                  "24h",
		"issuers[].types":                         "[absent, JWT, at+jwt]",
		"issuers[].jwks_refresh":                  "5m",
		"issuers[].jwks_max_age":                  "24h",
		"policy.admin.routes":                     "[management_routes]",
		"policy.teams.default_team_id":            `""`,
		"policy.teams.selector_header":            "x-team-id",
		"mapping.cache_ttl":                       "5m",
		"mapping.absent_ttl":                      "5m",
		"mapping.serve_stale":                     "5m",
		"mapping.auto_register.max_keys_per_team": "1000",
		"mapping.auto_register.max_per_minute":    "600",
		"credentials.headers":                     "[authorization]",
		"credentials.virtual_keys":                "true",
		"policy.teams.by_alias":                   "false",
		"policy.teams.require_member":             "false",
		"mapping.no_match_mode":                   "enforce",
		"mode":                                    "enforce",
		"key_header.name":                         "authorization",
		"key_header.prefix":                       "Bearer ",
		"upstream_credential":                     "strip",
		"headers.key_id":                          "x-extauthz-key-id",
		"headers.key_alias":                       "x-extauthz-key-alias",
		"headers.team_id":                         "x-extauthz-team-id",
		"headers.user_id":                         "x-extauthz-user-id",
		"headers.user_email":                      "x-extauthz-user-email",
		"headers.org_id":                          "x-extauthz-org-id",
		"headers.source":                          "x-extauthz-source",
		"headers.decision_id":                     "x-extauthz-decision-id",
		"outage_response":                         "denied",
		"log.level":                               "info",
		"log.allow_sample_rate":                   "1",
	}
}

func TestDefaultsAreTheStatedOnes(t *testing.T) {
	want := stated()
	eachField("", config.Defaults().ProtoReflect(), func(path string, value any) {
		if got := fmt.Sprint(value); got != want[path] {
			t.Errorf("%s is %s, want %q", path, got, want[path])
		}
		delete(want, path)
	})
	for path := range want {
		t.Errorf("%s has no default", path)
	}
}

// TestDefaultsOfMinimalFile shows that Parse fills in what Defaults says, and that it may be stated as well.
func TestDefaultsOfMinimalFile(t *testing.T) {
	want := stated()
	want["issuers[].issuer"], want["issuers[].audiences"] = "https://a.example", "[x]"
	eachField("", parse(t, minimal).ProtoReflect(), func(path string, value any) {
		if got := fmt.Sprint(value); got != want[path] {
			t.Errorf("%s is %s, want %q", path, got, want[path])
		}
	})
}

func TestAbsentTTLFollowsCacheTTL(t *testing.T) {
	c := parse(t, minimal+"mapping: {claim: sub, no_match: reject, cache_ttl: 7s}")
	if got := c.GetMapping().GetAbsentTtl().AsDuration().String(); got != "7s" {
		t.Errorf("absent_ttl is %s", got)
	}
}

// TestReferencePage holds docs/configuration.md against the schema and the defaults.
func TestReferencePage(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	want := stated()
	rows := schemaRows("", new(configv1.Config).ProtoReflect().Descriptor())
	for _, row := range append(rows, schemaRows("", new(configv1.ResourceFile).ProtoReflect().Descriptor())...) {
		path := row.path
		_, cells, found := strings.Cut(page, "\n| `"+path+"` | ")
		if !found {
			t.Errorf("%s is not on the page; run make generate", path)
			continue
		}
		text := "–"
		if want[path] != "" {
			text = "`" + want[path] + "`"
		}
		if row.required {
			text = "required"
		}
		if got := strings.Split(cells, " | ")[1]; got != text {
			t.Errorf("%s: the page says %s, want %s", path, got, text)
		}
	}
}

// eachField calls f with every value in message that is not itself a message of the schema.
func eachField(path string, message protoreflect.Message, f func(path string, value any)) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		inner := path + string(field.Name())
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				eachField(inner+"[].", value.List().Get(i).Message(), f)
			}
		case field.IsList():
			f(inner, texts(value.List()))
		case field.Message() == nil && value.String() == "":
			f(inner, `""`)
		case field.Message() == nil:
			f(inner, value.Interface())
		default:
			if d, ok := value.Message().Interface().(*durationpb.Duration); ok {
				f(inner, yamlfile.DurationText(d.AsDuration()))
			} else {
				eachField(inner+".", value.Message(), f)
			}
		}
		return true
	})
}

func texts(list protoreflect.List) string {
	all := make([]string, list.Len())
	for i := range all {
		all[i] = list.Get(i).String()
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// schemaRow is one field of the schema.
type schemaRow struct {
	path     string
	required bool
}

// schemaRows returns every field below a message, sections included.
func schemaRows(path string, message protoreflect.MessageDescriptor) []schemaRow {
	var rows []schemaRow
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		inner := path + string(field.Name())
		ours := field.Message() != nil && field.Message().ParentFile().Package() == "extauthz.config.v1"
		if ours && field.IsList() {
			inner += "[]"
		}
		rows = append(rows, schemaRow{inner, yamlfile.Required(field)})
		if ours {
			rows = append(rows, schemaRows(inner+".", field.Message())...)
		}
	}
	return rows
}
