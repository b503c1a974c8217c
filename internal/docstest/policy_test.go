package docstest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestFromLiteLLM runs the worked examples: our configuration and resources serve the callers of the table, in order, with the
// outcomes that it states.
func TestFromLiteLLM(t *testing.T) {
	_, text, _ := strings.Cut(read(t, policy), "\n## From LiteLLM\n")
	text, _, _ = strings.Cut(text, "\n## ")
	examples := strings.Split(text, "\n### ")[1:]
	if len(examples) < 3 {
		t.Fatalf("%s has %d worked examples", policy, len(examples))
	}
	for _, example := range examples {
		name, text, _ := strings.Cut(example, "\n")
		t.Run(name, func(t *testing.T) {
			var theirs struct {
				Settings struct {
					JWT map[string]any `yaml:"litellm_jwtauth"`
				} `yaml:"general_settings"`
			}
			if err := yaml.Unmarshal([]byte(fenced(t, text, "yaml litellm")), &theirs); err != nil || len(theirs.Settings.JWT) == 0 {
				t.Fatalf("LiteLLM's part holds no litellm_jwtauth (%v)", err)
			}
			s, callers := serve(t, fenced(t, text, "yaml config"), fenced(t, text, "yaml resources")), rows(text)
			if len(callers) < 5 {
				t.Fatalf("only %d callers", len(callers))
			}
			for _, row := range callers {
				if got, want := s.outcome(coded(row[0])[0], coded(row[1])[0]), coded(row[3])[0]; got != want {
					t.Errorf("%s, %s: %s, the page says %s", row[0], row[1], got, want)
				}
			}
		})
	}
}

// fenced returns the one block of a text with this info string.
func fenced(t *testing.T, text, info string) string {
	t.Helper()
	_, block, found := strings.Cut(text, "\n```"+info+"\n")
	block, _, ended := strings.Cut(block, "\n```\n")
	if !found || !ended {
		t.Fatalf("there is no block %q", info)
	}
	return block + "\n"
}

// outcome asks the server about `METHOD PATH [MODEL]` of a caller, and returns `STATUS SOURCE` or `STATUS REASON`.
func (s *served) outcome(claims, request string) string {
	s.t.Helper()
	caller := make(map[string]any)
	if err := json.Unmarshal([]byte(claims), &caller); err != nil {
		s.t.Fatalf("%s: %v", claims, err)
	}
	words, body := strings.Fields(request), "{}"
	if len(words) == 3 {
		body = fmt.Sprintf(`{"model":%q}`, words[2])
	}
	answer := s.check(caller, words[0], words[1], body)
	if answer["decision"] == "allow" {
		return fmt.Sprint(answer["status"], " ", answer["metadata"].(map[string]any)["source"])
	}
	return fmt.Sprint(answer["status"], " ", answer["reason"])
}
