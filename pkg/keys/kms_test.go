package keys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/extauthz/extauthz/pkg/keys"
)

// kmsKey is a key in a KMS that counts what it is asked, and fails if it has an error.
type kmsKey struct {
	aead  *subtle.AESGCM
	err   error
	asked int
	saw   [][]byte // plaintexts
}

func newKMSKey(t *testing.T) *kmsKey { return kmsKeyOf(t, 7) }

func kmsKeyOf(t *testing.T, key byte) *kmsKey {
	t.Helper()
	aead, err := subtle.NewAESGCM(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &kmsKey{aead: aead}
}

func (k *kmsKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	k.asked++
	k.saw = append(k.saw, bytes.Clone(plaintext))
	if err := errors.Join(k.err, ctx.Err()); err != nil {
		return nil, err
	}
	return k.aead.Encrypt(plaintext, associatedData)
}

func (k *kmsKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	k.asked++
	if err := errors.Join(k.err, ctx.Err()); err != nil {
		return nil, err
	}
	return k.aead.Decrypt(ciphertext, associatedData)
}

// A keyset behind a KMS seals, opens and rotates as any other, and asks the KMS only when it is read or written.
func TestKeysetOfAKMS(t *testing.T) {
	key := newKMSKey(t)
	first, err := keys.NewKeyset(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keys.RotateKeyset(t.Context(), first, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, plaintext := range key.saw {
		for _, text := range []string{string(plaintext), base64.StdEncoding.EncodeToString(plaintext)} {
			if strings.Contains(string(first)+string(second), text) {
				t.Error("a keyset is not encrypted")
			}
		}
	}
	before, err := keys.NewSealer(t.Context(), first, key)
	if err != nil {
		t.Fatal(err)
	}
	after, err := keys.NewSealer(t.Context(), second, key)
	if err != nil {
		t.Fatal(err)
	}
	asked, secret := key.asked, keys.Generate()
	sealed, err := before.Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := after.Open(sealed, secret.ID()); err != nil || opened != secret {
		t.Errorf("opened: %v", err)
	}
	if key.asked != asked {
		t.Error("the KMS was asked for a key")
	}
}

func TestKeysetOfAKMSFails(t *testing.T) {
	key := newKMSKey(t)
	encrypted, err := keys.NewKeyset(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := keys.NewKeyset(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	other := kmsKeyOf(t, 8)
	silent, broken := newKMSKey(t), newKMSKey(t)
	silent.err = context.DeadlineExceeded
	broken.err = errors.New("no\n\n  " + strings.Repeat("x", 10_000))
	for name, c := range map[string]struct {
		keyset []byte
		key    keys.KMSKey
		kms    bool
		says   string
	}{
		"encrypted, no key":         {encrypted, nil, false, "not an unencrypted Tink keyset"},
		"not encrypted, with a key": {plain, key, false, "not a Tink keyset in JSON that a KMS encrypted"},
		"garbage":                   {[]byte("sk-secret"), key, false, "not a Tink keyset in JSON that a KMS encrypted"},
		"nothing in it":             {[]byte("{}"), key, true, "KMS: "},
		"another key":               {encrypted, other, true, "KMS: "},
		"silence":                   {encrypted, silent, true, "KMS: context deadline exceeded"},
		"a long story":              {encrypted, broken, true, "KMS: no xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := keys.NewSealer(t.Context(), c.keyset, c.key)
			_, rotated := keys.RotateKeyset(t.Context(), c.keyset, c.key)
			for _, err := range []error{err, rotated} {
				if err == nil || errors.Is(err, keys.ErrKMS) != c.kms || !strings.Contains(err.Error(), c.says) ||
					strings.ContainsAny(err.Error(), "\n") || len(err.Error()) > 600 || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	if _, err := keys.NewKeyset(t.Context(), broken); !errors.Is(err, keys.ErrKMS) {
		t.Errorf("a new keyset: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keys.NewSealer(ctx, encrypted, key); !errors.Is(err, keys.ErrKMS) || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("cancelled: %v", err)
	}
}

// emptyKey is a KMS that decrypts everything to nothing.
type emptyKey struct{ *kmsKey }

func (emptyKey) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) { return nil, nil }

func TestKMSThatDecryptsToNothing(t *testing.T) {
	key := newKMSKey(t)
	encrypted, err := keys.NewKeyset(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.NewSealer(t.Context(), encrypted, emptyKey{key}); err == nil {
		t.Error("a keyset of no keys was taken")
	}
}
