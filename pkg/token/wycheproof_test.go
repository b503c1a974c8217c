package token

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
)

// vectorFile is what the files of Wycheproof that are used here have in common.
type vectorFile struct {
	NumberOfTests int
	TestGroups    []vectorGroup
}

type vectorGroup struct {
	Public, Private      json.RawMessage // of the files on JOSE: a JWK or a set of them
	PublicKeyJwk, KeyJwk json.RawMessage // of the others; some groups have only the next
	PublicKeyDer         hexadecimal
	Tests                []vector
}

type vector struct {
	TcID            int
	Comment, Result string
	JWS, JWE        json.RawMessage // of the files on JOSE: a string, or an object of the JSON serialization
	Msg, Sig        hexadecimal     // of the others
}

type hexadecimal []byte

func (h *hexadecimal) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// token is the text that a client would send.
func (v vector) token() string {
	text := append(v.JWS, v.JWE...) // one of them is empty
	var compact string
	if json.Unmarshal(text, &compact) == nil {
		return compact
	}
	return string(text)
}

func (g vectorGroup) keySet(t *testing.T) []byte {
	t.Helper()
	for _, key := range []json.RawMessage{g.Public, g.Private, g.PublicKeyJwk, g.KeyJwk} {
		switch {
		case key == nil:
		case bytes.Contains(key, []byte(`"keys"`)):
			return key
		default:
			return setText(t, key)
		}
	}
	public, err := x509.ParsePKIXPublicKey(g.PublicKeyDer)
	if err != nil {
		t.Fatal(err)
	}
	return setText(t, jwk(public, nil))
}

func readVectors(t *testing.T, name string) vectorFile {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// verdicts collects those on one file.
type verdicts struct {
	seen, accepted int
	different      []int
}

// add compares a verdict with Wycheproof's. "acceptable" is for what an implementation may refuse, and this one does.
func (v *verdicts) add(t *testing.T, tc vector, err error) {
	t.Helper()
	v.seen++
	valid := tc.Result == "valid"
	switch {
	case err == nil && !valid:
		t.Errorf("tcId %d (%s) is %s and was accepted", tc.TcID, tc.Comment, tc.Result)
	case err == nil:
		v.accepted++
	case valid:
		v.different = append(v.different, tc.TcID)
	}
}

// want checks the numbers, and that exactly the listed tests were refused though Wycheproof calls them valid.
func (v *verdicts) want(t *testing.T, file vectorFile, seen, accepted int, stricter ...strictness) {
	t.Helper()
	if v.seen != seen || file.NumberOfTests != seen || v.accepted != accepted {
		t.Errorf("accepted %d of %d (the file says %d), want %d of %d", v.accepted, v.seen, file.NumberOfTests, accepted, seen)
	}
	var listed []int
	for _, s := range stricter {
		listed = append(listed, s.tcIDs...)
	}
	slices.Sort(listed)
	if !slices.Equal(v.different, listed) {
		t.Errorf("refused, but valid: %v; listed are %v", v.different, listed)
	}
}

// strictness is a reason to refuse what Wycheproof calls valid.
type strictness struct {
	reason string
	tcIDs  []int
}

// TestWycheproofJOSE runs tokens with keys: with every algorithm that can be allowed, and with the default ones, where
// those of other algorithms must be refused.
func TestWycheproofJOSE(t *testing.T) {
	for _, f := range []struct {
		name                      string
		seen, accepted, byDefault int
		stricter                  []strictness
	}{
		{"json_web_signature_test.json", 401, 26, 9, []strictness{
			{"HMAC is no algorithm here", []int{1, 348, 352, 357, 358, 359, 372, 373, 376, 377}},
			{"claims are never empty", []int{259, 264, 268, 272, 320, 325}},
			{"the key's alg is PS256, the token's PS384", []int{346, 350}},
			{"the key's alg, ES521, does not exist", []int{347, 351}},
		}},
		{"json_web_key_test.json", 26, 1, 1, []strictness{
			{"HMAC is no algorithm here", []int{2, 13, 14, 15}},
		}},
		{"json_web_crypto_test.json", 83, 2, 2, []strictness{
			{"HMAC is no algorithm here", []int{1, 48}},
			{"an encrypted token is none", []int{50, 67}},
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			file, all, byDefault := readVectors(t, f.name), verdicts{}, 0
			for _, group := range file.TestGroups {
				keys := group.keySet(t)
				for _, tc := range group.Tests {
					err := judge(keys, algorithmNames(), tc.token())
					all.add(t, tc, err)
					parsed, _ := parseCompact(tc.token())
					want := err == nil && defaultAlgorithms()[parsed.header.alg].method != nil
					if got := judge(keys, nil, tc.token()) == nil; got != want {
						t.Errorf("tcId %d (%s) with the default algorithms: accepted %v", tc.TcID, tc.Comment, got)
					}
					if want {
						byDefault++
					}
				}
			}
			all.want(t, file, f.seen, f.accepted, f.stricter...)
			if byDefault != f.byDefault {
				t.Errorf("accepted %d with the default algorithms, want %d", byDefault, f.byDefault)
			}
		})
	}
}

// TestWycheproofSignatures runs signatures of bare messages, with their keys as the issuer's only one.
func TestWycheproofSignatures(t *testing.T) {
	for _, f := range []struct {
		name, alg      string
		seen, accepted int
	}{
		{"ed25519_test.json", "EdDSA", 151, 88},
		{"ecdsa_secp256r1_sha256_p1363_test.json", "ES256", 262, 173},
		{"ecdsa_secp384r1_sha384_p1363_test.json", "ES384", 280, 193},
		{"ecdsa_secp521r1_sha512_p1363_test.json", "ES512", 318, 231},
		{"rsa_signature_2048_sha256_test.json", "RS256", 259, 9},
		{"rsa_signature_2048_sha384_test.json", "RS384", 258, 7},
		{"rsa_signature_2048_sha512_test.json", "RS512", 259, 8},
		{"rsa_signature_3072_sha256_test.json", "RS256", 259, 8},
		{"rsa_signature_8192_sha256_test.json", "RS256", 258, 7},
		{"rsa_pss_2048_sha256_mgf1_32_test.json", "PS256", 108, 63},
		{"rsa_pss_2048_sha384_mgf1_48_test.json", "PS384", 141, 95},
		{"rsa_pss_4096_sha512_mgf1_64_test.json", "PS512", 179, 132},
	} {
		t.Run(f.name, func(t *testing.T) {
			file, all := readVectors(t, f.name), verdicts{}
			for _, group := range file.TestGroups {
				keys := group.keySet(t)
				for _, tc := range group.Tests {
					all.add(t, tc, tc.judge(keys, f.alg))
				}
			}
			all.want(t, file, f.seen, f.accepted)
		})
	}
}

// judge judges a signature of a bare message.
func (v vector) judge(keys []byte, alg string) error {
	return judgeSigned(keys, []string{alg}, jws{header: header{alg: alg}, signed: string(v.Msg), signature: v.Sig})
}

// TestWycheproofSalts runs PSS signatures whose salt has another length than RFC 7518 section 3.5 asks for, or is
// hashed otherwise. Wycheproof calls them valid, for other protocols. Only a test with the right salt may pass.
func TestWycheproofSalts(t *testing.T) {
	for name, f := range map[string]struct {
		seen     int
		accepted []string // comments
	}{
		"rsa_pss_2048_sha256_mgf1_0_test.json":      {103, []string{"s_len changed to 32"}},
		"rsa_pss_2048_sha256_mgf1sha1_20_test.json": {108, nil},
	} {
		var accepted []string
		seen := 0
		for _, group := range readVectors(t, name).TestGroups {
			keys := group.keySet(t)
			for _, tc := range group.Tests {
				seen++
				if tc.judge(keys, "PS256") == nil {
					accepted = append(accepted, tc.Comment)
				}
			}
		}
		if seen != f.seen || !slices.Equal(accepted, f.accepted) {
			t.Errorf("%s: accepted %q of %d, want %q of %d", name, accepted, seen, f.accepted, f.seen)
		}
	}
}
