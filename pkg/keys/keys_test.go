package keys_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"

	"github.com/extauthz/extauthz/pkg/keys"
)

func TestGenerate(t *testing.T) {
	seen := make(map[keys.Secret]bool)
	for range 100 {
		secret := keys.Generate()
		if text := string(secret); len(text) != len("sk-")+43 || !strings.HasPrefix(text, "sk-") || seen[secret] || !secret.ID().Valid() {
			t.Fatal("a generated key is not sk- and 32 random bytes")
		}
		seen[secret] = true
	}
}

// The hash is LiteLLM's, so that its tables can be imported: SHA-256 of the whole key.
func TestID(t *testing.T) {
	const want = keys.ID("88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b")
	if id := keys.Secret("sk-1234").ID(); id != want {
		t.Errorf("hash %s, want %s", id, want)
	}
	for _, bad := range []keys.ID{"", "88dc", want[:63] + "G", keys.ID(strings.ToUpper(string(want))), want + "0"} {
		if bad.Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
}

func TestSecretDoesNotShow(t *testing.T) {
	secret := keys.Secret("sk-very-secret")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", secret, "any", []any{secret})
	for _, shown := range []string{fmt.Sprint(secret), fmt.Sprintf("%v %s %q %+v %#v", secret, secret, secret, secret, secret), log.String()} {
		if strings.Contains(shown, "very-secret") {
			t.Errorf("shown: %s", shown)
		}
	}
}

func TestExpired(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		key     keys.Key
		expired bool
	}{
		{keys.Key{}, false},
		{keys.Key{ExpiresAt: now}, true},
		{keys.Key{ExpiresAt: now.Add(1)}, false},
		{keys.Key{IdleExpiresAt: now}, true},
		{keys.Key{ExpiresAt: now.Add(1), IdleExpiresAt: now.Add(-1)}, true},
		{keys.Key{ExpiresAt: now.Add(-1), IdleExpiresAt: now.Add(1)}, true},
	} {
		if got := c.key.Expired(now); got != c.expired {
			t.Errorf("%+v: expired %v", c.key, got)
		}
	}
}

func newSealer(t *testing.T, keyset []byte) *keys.Sealer {
	t.Helper()
	sealer, err := keys.NewSealer(t.Context(), keyset, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func TestSeal(t *testing.T) {
	keyset, err := keys.NewKeyset(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sealer, secret := newSealer(t, keyset), keys.Generate()
	sealed, err := sealer.Seal(secret)
	if err != nil || bytes.Contains(sealed, []byte(secret)) {
		t.Fatalf("sealed: %v", err)
	}
	if opened, err := sealer.Open(sealed, secret.ID()); err != nil || opened != secret {
		t.Fatalf("opened: %v", err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, c := range map[string]struct {
		sealed []byte
		id     keys.ID
	}{
		"of another key": {sealed, keys.Generate().ID()}, "changed": {changed, secret.ID()},
		"cut": {sealed[:len(sealed)-1], secret.ID()}, "empty": {nil, secret.ID()},
	} {
		if opened, err := sealer.Open(c.sealed, c.id); !errors.Is(err, keys.ErrSealed) || opened != "" {
			t.Errorf("%s: opened (%v)", name, err)
		}
	}
}

// Whoever holds the keyset can seal any text for a key's id: it opens as that key's only if it is.
func TestSealedTextOfAnother(t *testing.T) {
	text, err := keys.NewKeyset(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	id := keys.Generate().ID()
	sealed, err := primitive.Encrypt([]byte(keys.Generate()), []byte(id))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := newSealer(t, text).Open(sealed, id); !errors.Is(err, keys.ErrSealed) || opened != "" {
		t.Errorf("opened (%v)", err)
	}
}

func TestKeysetRotation(t *testing.T) {
	first, err := keys.NewKeyset(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keys.RotateKeyset(t.Context(), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, after, secret := newSealer(t, first), newSealer(t, second), keys.Generate()
	sealed, err := before.Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := after.Open(sealed, secret.ID()); err != nil || opened != secret {
		t.Fatalf("after the rotation, what was sealed before does not open: %v", err)
	}
	if !before.Current(sealed, secret.ID()) || after.Current(sealed, secret.ID()) {
		t.Error("what was sealed before the rotation is current after it, or was not before")
	}
	if sealed, err = after.Seal(secret); err != nil {
		t.Fatal(err)
	}
	if !after.Current(sealed, secret.ID()) || after.Current(sealed, keys.Generate().ID()) || after.Current(nil, secret.ID()) {
		t.Error("what was sealed after the rotation is not current, or is for another key")
	}
	if _, err := before.Open(sealed, secret.ID()); !errors.Is(err, keys.ErrSealed) {
		t.Fatal("the new key is not the primary one")
	}
}

func TestBadKeysets(t *testing.T) {
	handle, err := keyset.NewHandle(mac.HMACSHA256Tag128KeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var signing bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&signing)); err != nil {
		t.Fatal(err)
	}
	if sealer, err := keys.NewSealer(t.Context(), signing.Bytes(), nil); err == nil || sealer != nil {
		t.Error("a keyset that cannot seal is accepted")
	}
	for _, text := range []string{"", "{}", "not JSON sk-secret", `{"primaryKeyId":1,"key":[]}`} {
		if _, err := keys.NewSealer(t.Context(), []byte(text), nil); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := keys.RotateKeyset(t.Context(), []byte(text), nil); err == nil {
			t.Errorf("%q: rotated", text)
		}
	}
}
