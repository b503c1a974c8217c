package differential

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// policy is what a token is judged by.
type policy struct {
	Keys       map[string]any `json:"keys"`
	Issuer     string         `json:"issuer"`
	Audience   string         `json:"audience"`
	Algorithms []string       `json:"algorithms"`
	Now        int64          `json:"now"`    // in seconds since 1970
	Leeway     int64          `json:"leeway"` // in seconds
}

// installed is where `make deps` puts the two libraries.
const installed = "../../.cache/oracles"

// oracle is a library's opinion: for each token "accept", or "refuse" and why.
func oracle(t *testing.T, p policy, corpus []sample, command ...string) []string {
	t.Helper()
	var input, problems bytes.Buffer
	lines := json.NewEncoder(&input)
	if err := lines.Encode(p); err != nil {
		t.Fatal(err)
	}
	for _, s := range corpus {
		if err := lines.Encode(s.token); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.CommandContext(t.Context(), command[0], command[1:]...)
	run.Stdin, run.Stderr = &input, &problems
	output, err := run.Output()
	if err != nil {
		t.Fatalf("%v: %v (are the libraries there? make deps)\n%s", command, err, &problems)
	}
	verdicts := strings.Split(strings.TrimSuffix(string(output), "\n"), "\n")
	if len(verdicts) != len(corpus) {
		t.Fatalf("%v: %d verdicts on %d tokens\n%s", command, len(verdicts), len(corpus), &problems)
	}
	return verdicts
}

func joserfc(t *testing.T, p policy, corpus []sample) []string {
	return oracle(t, p, corpus, installed+"/python/bin/python", "oracle.py")
}

func jose(t *testing.T, p policy, corpus []sample) []string {
	return oracle(t, p, corpus, "node", "oracle.mjs", installed+"/node")
}
