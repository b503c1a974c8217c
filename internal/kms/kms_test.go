package kms_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/kms"
)

const secret = "the keyset's plaintext"

func open(t *testing.T, uri string) kms.Key {
	t.Helper()
	key, err := kms.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// roundTrip encrypts and decrypts, and returns the ciphertext.
func roundTrip(t *testing.T, key kms.Key, associatedData []byte) []byte {
	t.Helper()
	sealed, err := key.EncryptWithContext(t.Context(), []byte(secret), associatedData)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sealed), secret) || strings.Contains(string(sealed), base64.StdEncoding.EncodeToString([]byte(secret))) {
		t.Error("the ciphertext holds the plaintext")
	}
	plaintext, err := key.DecryptWithContext(t.Context(), sealed, associatedData)
	if err != nil || string(plaintext) != secret {
		t.Errorf("decrypted %q, %v", plaintext, err)
	}
	return sealed
}

// fails requires an error that says why, and nothing that is secret.
func fails(t *testing.T, err error, why string, secrets ...string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want an error with %q", err, why)
		return
	}
	for _, s := range append(secrets, secret, base64.StdEncoding.EncodeToString([]byte(secret))) {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}

// endsInTime requires that a call on a KMS that does not answer ends with its context.
func endsInTime(t *testing.T, key kms.Key) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := key.DecryptWithContext(ctx, []byte("vault:v1:x"), nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

func TestURIs(t *testing.T) {
	t.Setenv("VAULT_ADDR", "https://vault.example")
	for _, uri := range []string{
		"", "hcvault", "hcvault://", "hcvault://vault.example", "hcvault://vault.example/transit/a", "hcvault://vault.example/keys/a",
		"hcvault://vault.example/transit/keys/", "hcvault://vault.example/transit/keys/a?x", "hcvault://u:p@vault.example/transit/keys/a",
		"HCVAULT://vault.example/transit/keys/a", "vault://vault.example/transit/keys/a", " hcvault:///transit/keys/a",
		"aws-kms://", "aws-kms://alias/a", "aws-kms://arn:aws:kms:eu-central-1:key/a", "aws-kms://arn:aws:s3:eu-central-1:1:key/a",
		"gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
	} {
		if _, err := kms.Open(t.Context(), uri); !errors.Is(err, kms.ErrURI) {
			t.Errorf("%q: %v", uri, err)
		}
	}
	for _, uri := range []string{
		"hcvault:///transit/keys/a", "hcvault://vault.example/team/transit/keys/a.b-c_d", "hcvault://[::1]:8200/transit/keys/a",
		"aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"aws-kms://arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/extauthz",
	} {
		open(t, uri)
	}
}
