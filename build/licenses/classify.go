package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/google/licensecheck"
)

// mostUnknownWords may stand in a text beside the wording of known licenses and its copyright lines: a heading, and no terms.
const mostUnknownWords = 8

// allowed are the licenses under which a binary may be handed on with nothing but its notices. MPL-2.0 asks besides for the source
// of its own files, unmodified here: the modules that go.sum names are that source. Vault's client has it.
var allowed = map[string]bool{
	"Apache-2.0": true, "BSD-2-Clause": true, "BSD-3-Clause": true, "ISC": true, "MIT": true, "MPL-2.0": true, "LicenseRef-public-domain": true,
}

// reviewed holds the texts that a person had to read, by SHA-256: a changed text is read anew.
var reviewed = map[string][]string{
	// github.com/dgraph-io/ristretto z/LICENSE: twice MIT, for two files.
	"8444f00636d263befe4ea82fd5533df0f86347626b6ede2c07089534d96894a0": {"MIT"},
	// go.yaml.in/yaml, gopkg.in/yaml: one license for the files that came from libyaml, one for the rest.
	"d18f6323b71b0b768bb5e9616e36da390fbd39369a81807cca352de4e4e6aa0b": {"Apache-2.0", "MIT"},
	// modernc.org/libc LICENSE-3RD-PARTY.md: notices of Go, musl, go-netdb and nixpkgs.
	"f597097efe3d97021f89170746bd3a0fb9a8b6fb26b82043ed68a4e0283bee6c": {"BSD-3-Clause", "MIT"},
	// modernc.org/memory LICENSE-LOGO: where a picture came from, which is not linked.
	"5ae5bee3072a841376451b48d8cfcec7188e10543926d5870828d36c8a750dc5": nil,
	// modernc.org/sqlite LICENSE-3RD-PARTY.md: its section 1, what is linked. Apache-2.0 and MPL-2.0 are in sections 2 and 3,
	// what only tests and tools use.
	"4194f8e7119be72babd499db4f6f1f7547e36e8a7bffcb2b9c8df241b8f1576a": {"BSD-3-Clause", "LicenseRef-public-domain", "MIT"},
	// modernc.org/sqlite LICENSE-SQLITE: SQLite's dedication.
	"8438c9c89b849131ead81d5435cb97fcf052df5b0b286dda8a2d4c29e6cb3fd0": {"LicenseRef-public-domain"},
}

// classify returns the SPDX identifiers of the licenses in a text. One that is not allowed, or a text with more in it than known
// licenses, is an error.
func classify(text []byte) ([]string, error) {
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])
	ids, known := reviewed[digest]
	if !known {
		var unknown int
		ids, unknown = scan(text)
		if len(ids) == 0 || unknown > mostUnknownWords {
			return nil, fmt.Errorf("%d words are of no known license: read it, and add %s to the reviewed ones", unknown, digest)
		}
	}
	for _, id := range ids {
		if !allowed[id] {
			return nil, fmt.Errorf("license %s is not allowed", id)
		}
	}
	return ids, nil
}

// scan returns the licenses that it recognizes in a text, and how many words there are beside them.
func scan(text []byte) (ids []string, unknown int) {
	end := 0
	for _, match := range licensecheck.Scan(text).Match {
		ids = append(ids, match.ID)
		unknown += len(bytes.Fields(text[end:match.Start]))
		end = match.End
	}
	return ids, unknown + len(bytes.Fields(text[end:]))
}
