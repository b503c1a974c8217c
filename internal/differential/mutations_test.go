package differential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // the hash of RS512
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// goodToken is the plain token of a key.
func (c *corpus) goodToken(k key) string {
	return k.token(k.header().String(), c.claims().String())
}

// flips change characters of the text, and bits of what the segments hold.
func (c *corpus) flips() {
	for _, k := range c.own {
		raw := c.goodToken(k)
		for range 200 {
			c.add("a character changed", c.flipCharacter(raw))
			c.add("a bit changed", c.flipBit(raw))
		}
	}
}

func (c *corpus) flipCharacter(raw string) string {
	const others = alphabet + "=+/. \n"
	n := c.rng.IntN(len(raw))
	return raw[:n] + string(others[c.rng.IntN(len(others))]) + raw[n+1:]
}

func (c *corpus) flipBit(raw string) string {
	segments := strings.Split(raw, ".")
	which := c.rng.IntN(len(segments))
	text, err := base64.RawURLEncoding.DecodeString(segments[which])
	if err != nil || len(text) == 0 {
		return raw
	}
	text[c.rng.IntN(len(text))] ^= 1 << c.rng.IntN(8)
	segments[which] = encode(text)
	return strings.Join(segments, ".")
}

// swaps put segments of several good tokens together.
func (c *corpus) swaps() {
	var tokens [][]string
	for _, k := range c.own {
		for _, claims := range []members{c.claims(), c.claims().set("sub", `"admin"`)} {
			tokens = append(tokens, strings.Split(k.token(k.header().String(), claims.String()), "."))
		}
	}
	for _, a := range tokens {
		for _, b := range tokens {
			for _, d := range tokens {
				c.add("segments swapped", strings.Join([]string{a[0], b[1], d[2]}, "."))
			}
		}
	}
}

// spellings write the segments in other ways.
func (c *corpus) spellings() {
	edits := []func(string) string{
		func(s string) string { return s + "=" }, func(s string) string { return s + "==" }, func(s string) string { return s + "A" },
		func(s string) string { return s + "AAAA" }, func(s string) string { return s[:len(s)-1] }, func(s string) string { return s[1:] },
		func(string) string { return "" }, func(s string) string { return s + "\n" }, func(s string) string { return "\n" + s },
		func(s string) string { return s[:3] + "\r\n" + s[3:] }, func(s string) string { return s[:3] + " " + s[3:] },
		func(s string) string { return s[:3] + "\x00" + s[3:] }, func(s string) string { return s[:3] + "*" + s[3:] },
		func(s string) string { return s[:3] + "é" + s[3:] }, func(s string) string { return strings.ToLower(s) },
		func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s) }, func(s string) string { return s + "." },
		unusedBits, func(s string) string { return s + s }, func(s string) string { return encode([]byte(s)) },
	}
	for _, k := range c.own {
		raw := c.goodToken(k)
		for _, edit := range edits {
			for n := range 3 {
				segments := strings.Split(raw, ".")
				segments[n] = edit(segments[n])
				c.add("segment written otherwise", strings.Join(segments, "."))
			}
			c.add("token written otherwise", edit(raw))
		}
		for _, text := range []string{"Bearer " + raw, raw + "," + raw, raw + ".e30", raw + ".e30.e30", "." + raw, `"` + raw + `"`, " " + raw, raw + " "} {
			c.add("token with more text", text)
		}
	}
}

// unusedBits sets bits of the last character that do not count.
func unusedBits(s string) string {
	if len(s)%4 == 0 {
		return s
	}
	return s[:len(s)-1] + string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])|1])
}

// algorithms name other algorithms in the header and sign in every way that an attacker may try.
func (c *corpus) algorithms() {
	for _, k := range c.own {
		for _, alg := range []string{
			"none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
			"ES256K", "EdDSA", "Ed25519", "Ed448", "dir", "RSA-OAEP", "A128KW", "rs256", "es256", "eddsa", "RS256 ", "ES256\x00",
		} {
			for _, header := range []members{k.header().set("alg", quote(alg)), k.header().set("alg", quote(alg)).without("kid")} {
				input := encode([]byte(header.String())) + "." + encode([]byte(c.claims().String()))
				for _, signature := range [][]byte{k.sign(input), {}, []byte("sig")} {
					c.add("alg changed", input+"."+encode(signature))
				}
				for _, secret := range publicTexts(k) {
					mac := hmac.New(sha256.New, secret)
					mac.Write([]byte(input))
					c.add("HMAC with what is public", input+"."+encode(mac.Sum(nil)))
				}
			}
		}
	}
}

// publicTexts are what is known of a key and could be taken for a shared secret.
func publicTexts(k key) [][]byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic(err)
	}
	return [][]byte{nil, der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

// signatures write signatures in ways that some arithmetic takes.
func (c *corpus) signatures() {
	for _, k := range c.own {
		input := strings.Join(strings.Split(c.goodToken(k), ".")[:2], ".")
		signature := k.sign(input)
		list := [][]byte{
			{0}, make([]byte, len(signature)), signature[1:], signature[:len(signature)-1], append([]byte{0}, signature...), append(signature[:len(signature):len(signature)], 0),
			slices.Repeat([]byte{0xff}, len(signature)), slices.Concat(signature[len(signature)/2:], signature[:len(signature)/2]), slices.Repeat(signature, 2),
		}
		switch private := k.private.(type) {
		case *rsa.PrivateKey:
			list = append(list, signed(private, input, crypto.SHA512), signed(private, input, crypto.SHA384),
				new(big.Int).Add(private.N, new(big.Int).SetBytes(signature)).Bytes())
		case *ecdsa.PrivateKey:
			list = append(list, ecdsaForms(private, input)...)
		case ed25519.PrivateKey:
			list = append(list, edPlusOrder(signature))
		}
		for _, s := range list {
			c.add("signature written otherwise", input+"."+encode(s))
		}
	}
}

// ecdsaForms are (r, n-s), which is another good signature, and forms that are none.
func ecdsaForms(private *ecdsa.PrivateKey, input string) [][]byte {
	r, s := ecdsaSignature(private, input)
	n, zero := private.Params().N, new(big.Int)
	var list [][]byte
	for _, pair := range [][2]*big.Int{
		{r, new(big.Int).Sub(n, s)}, {zero, zero}, {r, zero}, {zero, s}, {n, n}, {n, s}, {r, n}, {s, r}, {big.NewInt(1), big.NewInt(1)},
	} {
		list = append(list, slices.Concat(pair[0].FillBytes(make([]byte, 32)), pair[1].FillBytes(make([]byte, 32))))
	}
	return append(list, signed(private, input, crypto.SHA256), signed(private, input, crypto.SHA512))
}

// edPlusOrder adds the group's order to S, which must not be a signature (RFC 8032 section 5.1.7).
func edPlusOrder(signature []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(signature[32:])
	slices.Reverse(s)
	sum := order.Add(order, new(big.Int).SetBytes(s)).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return slices.Concat(signature[:32], sum)
}

// mixtures make several changes at once.
func (c *corpus) mixtures() {
	values := c.values()
	for range 1500 {
		k, claims := c.anyKey(), c.claims()
		header := k.header()
		for range c.rng.IntN(3) {
			header = header.set(pick(c, []string{"alg", "kid", "typ", "crit", "jku", "x"}), pick(c, values))
		}
		for range c.rng.IntN(3) {
			claims = claims.set(pick(c, []string{"iss", "aud", "exp", "nbf", "iat", "sub", "x"}), pick(c, values))
		}
		raw := c.signer(k).token(header.String(), claims.String())
		switch c.rng.IntN(4) {
		case 0:
			raw = c.flipCharacter(raw)
		case 1:
			raw = c.flipBit(raw)
		}
		c.add("mixture", raw)
	}
}
