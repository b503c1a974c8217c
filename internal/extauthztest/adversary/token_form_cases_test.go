package adversary

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
)

const (
	compact  = "RFC 7515 7.1: exactly three segments"
	alphabet = "RFC 7515 2: base64url without padding; measured: golang-jwt skips line breaks, WithStrictDecoding too"
	strict64 = "RFC 4648 3.5; measured: accepted by golang-jwt without WithStrictDecoding"
	manyDots = "CVE-2025-30204, CVE-2025-22868, CVE-2025-27144"
	jwe      = "CVE-2024-28180, CVE-2026-34986: a JWE is not parsed"
)

// formCases are tricks with the compact form: segments, alphabet, encoding and size.
func formCases() []Case {
	malformed := deny(401, "token_malformed")
	whole := func(text string) moves { return moves{rewrite(func(string) string { return text })} }
	return []Case{
		{"a single letter", compact, malformed, whole("x")},
		{"one segment", compact, malformed, moves{rewrite(func(s string) string { return strings.Split(s, ".")[0] })}},
		{"two segments", compact, malformed, moves{rewrite(func(s string) string { return s[:strings.LastIndex(s, ".")] })}},
		{"an empty signature", compact, malformed, moves{signature("")}},
		{"an empty header", compact, malformed, moves{segment(0, func(string) string { return "" })}},
		{"empty claims", compact, malformed, moves{segment(1, func(string) string { return "" })}},
		{"dots alone", compact, malformed, whole("..")},
		{"a dot before", compact, malformed, moves{rewrite(prepended("."))}},
		{"a dot after", compact, malformed, moves{rewrite(appended("."))}},
		{"four segments", compact, malformed, moves{rewrite(appended(".e30"))}},
		{"five segments", jwe, malformed, moves{rewrite(appended(".e30.e30"))}},
		{"a JWE with a key of the attacker's", jwe, malformed, whole("eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA")},
		{"a JWE that asks for two billion rounds", "CVE-2023-49290: p2c", malformed, whole("eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJlbmMiOiJBMTI4R0NNIiwicDJjIjoyMDAwMDAwMDAwLCJwMnMiOiJBQUFBIn0.AAAA.AAAA.AAAA.AAAA")},
		{"six segments", compact, malformed, moves{rewrite(appended(".e30.e30.e30"))}},
		{"ten thousand dots", manyDots, malformed, whole(strings.Repeat(".", 10_000))},
		{"ten thousand segments", manyDots, malformed, whole(strings.Repeat("e30.", 3_500) + "e30")},
		{"two tokens in a row", compact, malformed, moves{rewrite(func(s string) string { return s + s })}},

		{"padding after the header", alphabet, malformed, moves{segment(0, appended("="))}},
		{"padding after the claims", alphabet, malformed, moves{segment(1, appended("=="))}},
		{"padding after the signature", alphabet, malformed, moves{segment(2, appended("=="))}},
		{"a line feed in the signature", alphabet, malformed, moves{segment(2, func(s string) string { return s[:40] + "\n" + s[40:] })}},
		{"a carriage return in the signature", alphabet, malformed, moves{segment(2, func(s string) string { return s[:40] + "\r" + s[40:] })}},
		{"a tab in the signature", alphabet, malformed, moves{segment(2, func(s string) string { return s[:40] + "\t" + s[40:] })}},
		{"a space in the claims", alphabet, malformed, moves{segment(1, func(s string) string { return s[:40] + " " + s[40:] })}},
		{"a NUL after the signature", alphabet, malformed, moves{segment(2, appended("\x00"))}},
		{"a slash in the signature", alphabet, malformed, moves{segment(2, func(s string) string { return "/" + s[1:] })}},
		{"a plus in the signature", alphabet, malformed, moves{segment(2, func(s string) string { return "+" + s[1:] })}},
		{"percent-encoded dots", alphabet, malformed, moves{rewrite(func(s string) string { return strings.ReplaceAll(s, ".", "%2E") })}},
		{"full-width dots", alphabet, malformed, moves{rewrite(func(s string) string { return strings.ReplaceAll(s, ".", "．") })}},
		{"in quotes", alphabet, malformed, moves{rewrite(func(s string) string { return `"` + s + `"` })}},
		{"a letter outside ASCII", alphabet, malformed, moves{segment(2, func(s string) string { return "é" + s[2:] })}},
		{"a semicolon after it", alphabet, malformed, moves{rewrite(appended(";x=1"))}},
		{"a fragment after it", alphabet, malformed, moves{rewrite(appended("#x"))}},
		{"the flattened JSON form", "RFC 7515 7.2.2", deny(401, "credentials_ambiguous"), moves{rewrite(func(s string) string {
			part := strings.Split(s, ".")
			return `{"protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`
		})}},
		{"in hexadecimal", alphabet, malformed, whole("7b22616c67223a226e6f6e65227d")},
		{"the scheme twice", "RFC 6750 2.1", malformed, moves{rewrite(prepended("Bearer "))}},
		{"one character too many", alphabet, malformed, moves{segment(2, appended("AAA"))}},

		{"an unused bit of the header", strict64, malformed, moves{segment(0, unusedBit)}},
		{"an unused bit of the claims", strict64, malformed, moves{unevenClaims, segment(1, unusedBit)}},
		{"an unused bit of the signature", strict64, malformed, moves{segment(2, unusedBit)}},
		{"a header that is no base64", alphabet, malformed, moves{segment(0, func(string) string { return "AAAAA" })}},

		{"of 16 KiB", "control: R10", allow("mapping"), moves{ofSize(16 << 10)}},
		{"of 16 KiB and some more", "R10: bounds everywhere", malformed, moves{ofSize(16<<10 + 8)}},
		{"of 40 KiB", "R10: bounds everywhere", malformed, moves{ofSize(40 << 10)}},
	}
}

// unevenClaims pads the claims so that their last character has unused bits.
func unevenClaims(a *attempt) {
	for pad := ""; ; pad += "x" {
		a.claims["pad"] = pad
		if text, err := a.claimsJSON(); err != nil || len(text)%3 != 0 {
			return
		}
	}
}

// ofSize pads the claims so that the token has this size, or up to three bytes less.
func ofSize(bytes int) move {
	return func(a *attempt) {
		const header, signature = 58, 86 // characters, with the default header and ES256
		a.claims["pad"] = ""
		text, err := a.claimsJSON()
		if err != nil {
			panic(err) // the claims are made here
		}
		room := (bytes - header - signature - 2) * 3 / 4
		a.claims["pad"] = strings.Repeat("x", room-len(text))
	}
}

const (
	forgedBasis = "RFC 7515 5.2: the signature is validated"
	rawECDSA    = "RFC 7518 3.4: R and S, 32 bytes each"
	zeroECDSA   = "CVE-2022-21449: psychic signatures"
	covers      = "RFC 7515 5.2: the signature covers header and claims as sent"
)

// signatureCases are forged, malformed and moved signatures.
func signatureCases() []Case {
	invalid := deny(401, "token_invalid")
	rs, es, ed := alg("RS256"), alg("ES256"), alg("EdDSA")
	return []Case{
		{"by a key of nobody's, ES256", forgedBasis, invalid, moves{es, signedWith("ES256", attackersEC)}},
		{"by a key of nobody's, RS256", forgedBasis, invalid, moves{rs, signedWith("RS256", attackersRSA)}},
		{"by a key of nobody's, EdDSA", forgedBasis, invalid, moves{ed, signedWith("EdDSA", attackersEd25519)}},
		{"by the issuer's other key", forgedBasis, invalid, moves{es, signedWith("EdDSA", homesKey("EdDSA"))}},
		{"of another token", covers, invalid, moves{claim("sub", "subject-root"), signatureOf(claim("sub", "subject-alice"))}},
		{"of a token with another kid", covers, invalid, moves{signatureOf(header("kid", absent))}},
		{"of the claims alone", covers, invalid, moves{signedInput("ES256", func(input string) string { return strings.Split(input, ".")[1] })}},
		{"of the decoded text", covers, invalid, moves{signedInput("ES256", decodedInput)}},
		{"of the text with a line break", covers, invalid, moves{signedInput("ES256", appended("\n"))}},
		{"of nothing", covers, invalid, moves{signedInput("ES256", func(string) string { return "" })}},
		{"the claims changed", covers, invalid, moves{segment(1, replaced("subject-alice", "subject-admin"))}},
		{"white space added to the claims", covers, invalid, moves{segment(1, replaced(`{"`, `{ "`))}},
		{"white space added to the header", covers, invalid, moves{segment(0, replaced(`{"`, `{ "`))}},
		{"the header's members in another order", covers, invalid, moves{segment(0, func(string) string {
			return base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","kid":"ES256-1","alg":"ES256"}`))
		})}},

		{"ECDSA, all zeros", zeroECDSA, invalid, moves{es, signatureBytes(func([]byte) []byte { return make([]byte, 64) })}},
		{"ECDSA, R zero", zeroECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte { return append(make([]byte, 32), b[32:]...) })}},
		{"ECDSA, S zero", zeroECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte { return append(b[:32], make([]byte, 32)...) })}},
		{"ECDSA, R and S the group's order", zeroECDSA, invalid, moves{es, signatureBytes(func([]byte) []byte {
			order := elliptic.P256().Params().N.Bytes()
			return append(order, order...)
		})}},
		{"ECDSA, R and S one", zeroECDSA, invalid, moves{es, signatureBytes(func([]byte) []byte {
			one := make([]byte, 64)
			one[31], one[63] = 1, 1
			return one
		})}},
		{"ECDSA in DER", rawECDSA, invalid, moves{es, signatureBytes(derOf)}},
		{"ECDSA, R and S exchanged", rawECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte { return append(append([]byte{}, b[32:]...), b[:32]...) })}},
		{"ECDSA, one byte short", rawECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte { return b[:63] })}},
		{"ECDSA, one byte more", rawECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte { return append(b, 0) })}},
		{"ECDSA, padded in front", rawECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte { return append([]byte{0}, b...) })}},
		{"ECDSA, both halves padded", rawECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte {
			return append(append(append([]byte{0}, b[:32]...), 0), b[32:]...)
		})}},
		{"ECDSA, S larger than the order", rawECDSA, invalid, moves{es, signatureBytes(func(b []byte) []byte {
			s := new(big.Int).Add(new(big.Int).SetBytes(b[32:]), elliptic.P256().Params().N)
			return append(b[:32], s.FillBytes(make([]byte, 33))...)
		})}},
		{"ECDSA, a bit changed", forgedBasis, invalid, moves{es, signatureBytes(func(b []byte) []byte { b[10] ^= 1; return b })}},
		{"ECDSA, the other root of S", "control: measured: valid, so a token's text is no identity", allow("mapping"), moves{es, signatureBytes(func(b []byte) []byte {
			s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(b[32:]))
			return append(b[:32], s.FillBytes(make([]byte, 32))...)
		})}},
		{"ECDSA by a P-384 key of the same kid", "RFC 7518 3.4: the curve belongs to the algorithm", invalid, moves{es, signedWith("ES384", attackersP384)}},

		{"RSA, all zeros", forgedBasis, invalid, moves{rs, signatureBytes(func([]byte) []byte { return make([]byte, 256) })}},
		{"RSA, the number one", forgedBasis, invalid, moves{rs, signatureBytes(func([]byte) []byte { return append(make([]byte, 255), 1) })}},
		{"RSA, one byte short", "RFC 8017 8.2.2: length of the modulus", invalid, moves{rs, signatureBytes(func(b []byte) []byte { return b[1:] })}},
		{"RSA, padded in front", "RFC 8017 8.2.2", invalid, moves{rs, signatureBytes(func(b []byte) []byte { return append([]byte{0}, b...) })}},
		{"RSA, larger than the modulus", "RFC 8017 5.2.2", invalid, moves{rs, signatureBytes(func(b []byte) []byte {
			for i := range b {
				b[i] = 0xff
			}
			return b
		})}},
		{"RSA with SHA-1", "RFC 8725 3.2", invalid, moves{rs, signedWithSHA1}},
		{"RSA over the hash without its name", "RFC 8017 9.2", invalid, moves{rs, signedWithoutHashName}},
		{"RSA, a bit changed", forgedBasis, invalid, moves{rs, signatureBytes(func(b []byte) []byte { b[100] ^= 0x10; return b })}},

		{"Ed25519, all zeros", forgedBasis, invalid, moves{ed, signatureBytes(func([]byte) []byte { return make([]byte, 64) })}},
		{"Ed25519, S larger than the order", "RFC 8032 5.1.7: malleability", invalid, moves{ed, signatureBytes(addEd25519Order)}},
		{"Ed25519, a bit changed", forgedBasis, invalid, moves{ed, signatureBytes(func(b []byte) []byte { b[0] ^= 1; return b })}},
		{"Ed25519, one byte short", "RFC 8032 5.1.7", invalid, moves{ed, signatureBytes(func(b []byte) []byte { return b[:63] })}},
		{"Ed25519, one byte more", "RFC 8032 5.1.7", invalid, moves{ed, signatureBytes(func(b []byte) []byte { return append(b, 0) })}},
		{"an ECDSA signature in an RSA token", forgedBasis, invalid, moves{rs, signedWith("ES256", homesKey("ES256"))}},
		{"an RSA signature in an EdDSA token", forgedBasis, invalid, moves{ed, signedWith("RS256", homesKey("RS256"))}},
	}
}

// signatureOf takes the signature of the token that further moves would make.
func signatureOf(changes ...move) move {
	return func(a *attempt) {
		world, alg := a.world, a.alg
		a.rewrites = append(a.rewrites, func(token string) string {
			donor, err := newAttempt(world, Case{Moves: append(moves{func(b *attempt) { b.alg = alg }}, changes...)})
			if err != nil {
				panic(err) // the moves are made here
			}
			return token[:strings.LastIndex(token, ".")] + donor.token[strings.LastIndex(donor.token, "."):]
		})
	}
}

// signedInput signs another text than the one that must be signed.
func signedInput(alg string, change func(string) string) move {
	return func(a *attempt) {
		a.sign = func(input string) ([]byte, error) { return signWith(alg, a.issuer.PrivateKey(alg), change(input)) }
	}
}

func decodedInput(input string) string {
	var text []byte
	for _, segment := range strings.Split(input, ".") {
		decoded, err := base64.RawURLEncoding.DecodeString(segment)
		if err != nil {
			panic(err) // the segments were encoded here
		}
		text = append(text, decoded...)
	}
	return string(text)
}

func derOf(raw []byte) []byte {
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		panic(err) // two numbers always marshal
	}
	return der
}

func signedWithSHA1(a *attempt) {
	a.sign = func(input string) ([]byte, error) {
		digest := sha1.Sum([]byte(input))
		return rsa.SignPKCS1v15(rand.Reader, a.issuer.PrivateKey("RS256").(*rsa.PrivateKey), crypto.SHA1, digest[:])
	}
}

// signedWithoutHashName signs a digest as PKCS #1 does without a DigestInfo.
func signedWithoutHashName(a *attempt) {
	a.sign = func(input string) ([]byte, error) {
		digest := crypto.SHA256.New()
		digest.Write([]byte(input))
		return rsa.SignPKCS1v15(rand.Reader, a.issuer.PrivateKey("RS256").(*rsa.PrivateKey), 0, digest.Sum(nil))
	}
}

// addEd25519Order adds the group's order to S, which verifiers that do not check its range accept.
func addEd25519Order(signature []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := make([]byte, 32)
	for i := range s {
		s[i] = signature[63-i] // it is little-endian
	}
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	for i := range sum {
		signature[63-i] = sum[i]
	}
	return signature
}

// publishedKey is one of the further keys in the home issuer's key set.
func publishedKey(kid string) func(*world) crypto.PrivateKey {
	return func(w *world) crypto.PrivateKey { return w.published[kid] }
}

// newPublishedKeys makes them: what stands in the key set, and what an attacker who has the private half can sign with.
func newPublishedKeys() (map[string]crypto.PrivateKey, error) {
	keys := make(map[string]crypto.PrivateKey)
	var err error
	for kid, curve := range map[string]elliptic.Curve{
		"encryption": elliptic.P256(), "wrapping": elliptic.P256(), "twice": elliptic.P256(), "twice, again": elliptic.P256(), "p384": elliptic.P384(), "any-p384": elliptic.P384(),
	} {
		if keys[kid], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			return nil, err
		}
	}
	for kid, bits := range map[string]int{"rsa-1024": 1024, "pinned-ps256": 2048, "any-rsa": 2048} {
		if keys[kid], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
