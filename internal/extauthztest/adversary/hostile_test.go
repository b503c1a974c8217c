package adversary

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// This file has what hostile and broken issuers serve in place of a key set, and the forgeries that their keys invite.

// serving sets an issuer up.
type serving func(w *world, i *issuertest.Issuer)

func served(*world, *issuertest.Issuer) {}

// publish adds entries to the issuer's own key set; a function makes one of the world.
func publish(entries ...any) serving {
	return func(w *world, i *issuertest.Issuer) { i.Publish(made(w, entries)...) }
}

// instead serves entries in place of the issuer's own.
func instead(entries ...any) serving {
	return func(w *world, i *issuertest.Issuer) { i.Respond(writes(map[string]any{"keys": made(w, entries)})) }
}

func made(w *world, entries []any) []any {
	list := make([]any, len(entries))
	for n, entry := range entries {
		if of, ok := entry.(func(*world) map[string]any); ok {
			entry = of(w)
		}
		list[n] = entry
	}
	return list
}

func writes(value any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(value) }
}

func answer(text string) serving { return answerWith(http.StatusOK, text) }

func answerWith(status int, text string) serving {
	return func(_ *world, i *issuertest.Issuer) {
		i.Respond(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		})
	}
}

func status(code int) serving { return answerWith(code, "") }

// ownEntry is the issuer's own key as it publishes it.
func ownEntry(i *issuertest.Issuer) map[string]any {
	return named(i.PrivateKey("ES256").Public(), "ES256-1", "ES256")
}

func named(public crypto.PublicKey, kid, alg string) map[string]any {
	entry := localissuer.JWK(public)
	entry["kid"], entry["alg"], entry["use"] = kid, alg, "sig"
	return entry
}

// member serves the issuer's own key with one member changed.
func member(name string, value any) serving {
	return func(_ *world, i *issuertest.Issuer) {
		entry := ownEntry(i)
		entry[name] = value
		i.Respond(writes(map[string]any{"keys": []any{entry}}))
	}
}

func twiceTheKeys(_ *world, i *issuertest.Issuer) {
	entry, err := json.Marshal(ownEntry(i))
	if err != nil {
		panic(err) // texts always marshal
	}
	answer(`{"keys":[`+string(entry)+`],"keys":[`+string(entry)+`]}`)(nil, i)
}

func partial(_ *world, i *issuertest.Issuer) {
	entry := ownEntry(i)
	i.Respond(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusPartialContent)
		writes(map[string]any{"keys": []any{entry}})(w, r)
	})
}

// crowd serves the issuer's own key among so many.
func crowd(keys int) serving {
	return func(_ *world, i *issuertest.Issuer) {
		var entries []any
		for range keys {
			entries = append(entries, ownEntry(i))
		}
		i.Respond(writes(map[string]any{"keys": entries}))
	}
}

func huge(_ *world, i *issuertest.Issuer) {
	i.Respond(writes(map[string]any{"keys": []any{ownEntry(i)}, "x": strings.Repeat("x", 1<<20)}))
}

func endless(_ *world, i *issuertest.Issuer) {
	i.Respond(func(w http.ResponseWriter, _ *http.Request) {
		block := []byte(strings.Repeat(" ", 64<<10))
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
}

// late answers when nobody waits any more.
func late(_ *world, i *issuertest.Issuer) { i.Delay(time.Hour) }

// redirect sends to where the keys are, on a server that is not the issuer's.
func redirect(w *world, i *issuertest.Issuer) {
	i.Respond(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, w.stranger.JWKSURL(), http.StatusFound)
	})
}

func hangUp(_ *world, i *issuertest.Issuer) {
	i.Respond(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// The keys that a hostile issuer publishes.

// octSecret is a secret that stands in a public key set.
func octSecret(w *world) []byte { return w.oct }

func octKey(w *world) map[string]any {
	return map[string]any{"kty": "oct", "kid": "oct", "alg": "HS256", "k": base64.RawURLEncoding.EncodeToString(w.oct)}
}

func homesKeyNamed(kid string) func(*world) map[string]any {
	return func(w *world) map[string]any { return named(w.home.PrivateKey("ES256").Public(), kid, "ES256") }
}

func attackersKeyNamed(kid string) func(*world) map[string]any {
	return func(w *world) map[string]any { return named(w.attacker.ec.Public(), kid, "ES256") }
}

func shortKey(w *world) map[string]any {
	return named(w.published["rsa-1024"].(crypto.Signer).Public(), "short", "RS256")
}

func exponentOneKey(w *world) map[string]any {
	entry := named(w.attacker.rsa.Public(), "exponent-one", "RS256")
	entry["e"] = "AQ"
	return entry
}

// exponentOneSignature is the padded digest itself: raised to the first power it stays what it is.
func exponentOneSignature(a *attempt) {
	a.sign = func(input string) ([]byte, error) {
		digest := sha256.Sum256([]byte(input))
		info, _ := new(big.Int).SetString("3031300d060960864801650304020105000420", 16) // DigestInfo of SHA-256, RFC 8017 9.2
		tail := append(append([]byte{0}, info.Bytes()...), digest[:]...)
		size := a.world.attacker.rsa.Public().(*rsa.PublicKey).Size()
		padding := strings.Repeat("\xff", size-len(tail)-2)
		return append([]byte("\x00\x01"+padding), tail...), nil
	}
}

// orderOneKey is the neutral element of the group: times any number it stays what it is.
func orderOneKey(*world) map[string]any {
	return map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "order-one", "alg": "EdDSA", "use": "sig", "x": base64.RawURLEncoding.EncodeToString(neutral())}
}

func neutral() []byte { return append([]byte{1}, make([]byte, 31)...) }

// orderOneSignature verifies with that key, whatever was signed: R is neutral and S is zero.
func orderOneSignature(a *attempt) {
	a.sign = func(string) ([]byte, error) { return append(neutral(), make([]byte, 32)...), nil }
}
