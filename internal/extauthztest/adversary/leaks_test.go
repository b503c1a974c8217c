package adversary

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// TestLeaks runs every case with the log at debug level, and some more while the database is away, and then searches every
// line of the log, the metrics and the readiness page for what must not be there: segments of tokens, claims, keys, their
// hashes, and the database's password. What answers hold, each case of TestCheck looks at.
func TestLeaks(t *testing.T) {
	w := newWorld(t)
	pg := pgtest.Start(t)
	s := serve(t, w, newPostgres(t, pg))
	all := s.checkAll(t, w, raw)
	pg.Stop(t)
	for n := range 3 {
		c := &checked{Case: Case{Want: deny(503, "store_unavailable"), Moves: moves{client("while-away-" + strings.Repeat("x", n))}}}
		c.ask(t.Context(), s, w, raw)
		c.expect(t)
		all = append(all, c)
	}
	pages := map[string]string{"/metrics": s.page("/metrics"), "/readyz": s.page("/readyz")}
	s.stop() // after it, the log is complete
	pages["the log"] = s.logged()
	if decisions := strings.Count(pages["the log"], `"msg":"decision"`); decisions != int(s.asked.Load()) {
		t.Fatalf("the log has %d decisions of %d: it cannot show what leaks", decisions, s.asked.Load())
	}
	for name, text := range pages {
		for _, shape := range []string{`eyJ`, `\bsk-`, `\b[0-9a-f]{64}\b`, `hunter2`} {
			if found := regexp.MustCompile(`.*` + shape + `.*`).FindString(text); found != "" {
				t.Errorf("%s holds %s: %s", name, shape, found)
			}
		}
		for _, c := range all {
			c.leaksInto(t, name, text)
		}
	}
}

// leaksInto looks for what the attempt's token said, in the spelling of the token and in that of JSON.
func (c *checked) leaksInto(t *testing.T, name, text string) {
	t.Helper()
	var found []string
	for _, segment := range strings.FieldsFunc(c.attempt.token, func(r rune) bool { return r == '.' }) {
		if len(segment) >= 16 && strings.Contains(text, segment) {
			found = append(found, segment)
		}
	}
	for _, value := range c.attempt.claimTexts() {
		quoted, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, value) || strings.Contains(text, strings.Trim(string(quoted), `"`)) {
			found = append(found, value)
		}
	}
	if len(found) > 0 {
		t.Errorf("%s holds what %s/%s said: %.200q", name, c.group, c.Name, found)
	}
}

// claimTexts are the claims' texts that are long enough to be nobody else's words. The issuer is not among them: the log
// names it. Teams and organizations are named too, once their rows were found; their names here are short.
func (a *attempt) claimTexts() []string {
	var texts []string
	var collect func(any)
	collect = func(value any) {
		switch value := value.(type) {
		case string:
			if len(value) >= 8 && len(value) <= 1024 {
				texts = append(texts, value)
			}
		case []string:
			for _, element := range value {
				collect(element)
			}
		case []any:
			for _, element := range value {
				collect(element)
			}
		case map[string]any:
			for _, element := range value {
				collect(element)
			}
		}
	}
	for name, value := range a.claims {
		if name != "iss" && name != "pad" {
			collect(value)
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}
