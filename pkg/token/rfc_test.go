package token

import (
	"context"
	"encoding/json"
	"os"
	"testing"
)

// judge runs a token through everything that is judged before its claims: the key set's filter, the token's form,
// the choice of the key and the signature.
func judge(keys []byte, algorithms []string, raw string) error {
	parsed, err := parseCompact(raw)
	if err != nil {
		return err
	}
	return judgeSigned(keys, algorithms, parsed)
}

func judgeSigned(keys []byte, algorithms []string, t jws) error {
	config := Issuer{Algorithms: algorithms}.withDefaults()
	set, err := parseKeySet(keys, allowed(config.Algorithms))
	if err != nil {
		return err
	}
	source := newKeySource(config, func(context.Context) (*keySet, error) { return set, nil }, Options{}.withDefaults())
	i := &issuer{Issuer: config, algorithms: allowed(config.Algorithms), keys: source, around: Options{}.withDefaults().Around}
	_, err = i.verifySignature(context.Background(), t)
	return err
}

// TestRFCExamples verifies the tokens that the RFCs print, with their keys. As they are printed, with the private
// part, the keys must be refused.
func TestRFCExamples(t *testing.T) {
	text, err := os.ReadFile("testdata/rfc.json")
	if err != nil {
		t.Fatal(err)
	}
	var examples []struct {
		Source, Alg, Token string
		Key                map[string]any
	}
	if err := json.Unmarshal(text, &examples); err != nil {
		t.Fatal(err)
	}
	if len(examples) != 6 {
		t.Errorf("%d examples", len(examples))
	}
	for _, e := range examples {
		if judge(setText(t, e.Key), []string{e.Alg}, e.Token) == nil {
			t.Errorf("%s: a published private key verifies", e.Source)
		}
		for _, private := range []string{"d", "p", "q"} {
			delete(e.Key, private)
		}
		if err := judge(setText(t, e.Key), []string{e.Alg}, e.Token); err != nil {
			t.Errorf("%s: %v", e.Source, err)
		}
	}
}
