package localissuer

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

type absent string

// Absent as a value removes a default claim or header member.
const Absent absent = "absent"

// MintOption changes one token.
type MintOption func(*mint)

type mint struct {
	alg       string
	header    map[string]any
	headerRaw []byte
	claimsRaw []byte
	signer    crypto.PrivateKey
	sign      func(signingInput string) ([]byte, error)
}

// Alg signs with the issuer's key for that algorithm. The default is the issuer's first algorithm.
func Alg(name string) MintOption { return func(m *mint) { m.alg = name } }

// Kid sets the kid, whatever key signs.
func Kid(kid string) MintOption { return Header("kid", kid) }

// Header sets a header member to a value; [Absent] removes it. It does not change how the token is signed.
func Header(name string, value any) MintOption {
	return func(m *mint) { m.header[name] = value }
}

// RawHeader sets the header's JSON text, which need not be JSON.
func RawHeader(text string) MintOption { return func(m *mint) { m.headerRaw = []byte(text) } }

// RawClaims sets the claims' JSON text, which need not be JSON. The claims given to Mint are then not used.
func RawClaims(text string) MintOption { return func(m *mint) { m.claimsRaw = []byte(text) } }

// SignedBy signs with a key that is not the issuer's, by the algorithm of [Alg].
func SignedBy(private crypto.PrivateKey) MintOption { return func(m *mint) { m.signer = private } }

// Sign makes the signature out of the first two segments.
func Sign(sign func(signingInput string) ([]byte, error)) MintOption {
	return func(m *mint) { m.sign = sign }
}

// Mint returns a signed token. Its claims are iss, aud, sub "alice", iat now and exp in 5 minutes by the
// issuer's clock, overridden by claims; [Absent] removes one. Its header has typ JWT, alg and kid.
func (i *Issuer) Mint(claims map[string]any, opts ...MintOption) (string, error) {
	m := &mint{alg: i.options.algorithms[0], header: map[string]any{}}
	for _, opt := range opts {
		opt(m)
	}
	headerText, err := i.headerText(m)
	if err != nil {
		return "", err
	}
	claimsText, err := i.claimsText(m, claims)
	if err != nil {
		return "", err
	}
	input := encode(headerText) + "." + encode(claimsText)
	signature, err := i.signature(m, input)
	if err != nil {
		return "", fmt.Errorf("localissuer: signing: %w", err)
	}
	return input + "." + encode(signature), nil
}

func (i *Issuer) headerText(m *mint) ([]byte, error) {
	if m.headerRaw != nil {
		return m.headerRaw, nil
	}
	header := map[string]any{"typ": "JWT", "alg": m.alg}
	if k, ok := i.keyFor(m.alg); ok {
		header["kid"] = k.kid
	}
	return marshalWithout(header, m.header)
}

func (i *Issuer) claimsText(m *mint, claims map[string]any) ([]byte, error) {
	if m.claimsRaw != nil {
		return m.claimsRaw, nil
	}
	now := i.options.now()
	return marshalWithout(map[string]any{
		"iss": i.url, "aud": i.options.audience, "sub": "alice",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}, claims)
}

// marshalWithout marshals defaults with changes over them, without what is Absent.
func marshalWithout(defaults, changes map[string]any) ([]byte, error) {
	maps.Copy(defaults, changes)
	maps.DeleteFunc(defaults, func(_ string, value any) bool { return value == any(Absent) })
	return json.Marshal(defaults)
}

func (i *Issuer) signature(m *mint, input string) ([]byte, error) {
	if m.sign != nil {
		return m.sign(input)
	}
	method := jwt.GetSigningMethod(m.alg)
	if method == nil {
		return nil, fmt.Errorf("unknown algorithm %q", m.alg)
	}
	if m.signer != nil {
		return method.Sign(input, m.signer)
	}
	k, ok := i.keyFor(m.alg)
	if !ok {
		return nil, errors.New("the issuer has no key for the algorithm; see SignedBy")
	}
	return method.Sign(input, k.signer)
}

func (i *Issuer) keyFor(alg string) (key, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range i.signing {
		if k.alg == alg {
			return k, true
		}
	}
	return key{}, false
}

// PrivateKey returns the key that signs by the algorithm now, or nil.
func (i *Issuer) PrivateKey(alg string) crypto.Signer {
	k, _ := i.keyFor(alg)
	return k.signer
}
