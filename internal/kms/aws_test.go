package kms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/extauthz/extauthz/internal/kms"
)

const (
	awsARN     = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	awsKey     = "aws-kms://" + awsARN
	awsSecret  = "the-secret-access-key"
	awsSession = "the-session-token"
)

// fakeAWS does with one key what AWS KMS does, as far as its Encrypt and Decrypt are used. No other can be had on loopback.
type fakeAWS struct {
	t     *testing.T
	aead  cipher.AEAD
	fault atomic.Pointer[http.HandlerFunc] // instead
}

func startAWS(t *testing.T) *fakeAWS {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeAWS{t: t}
	if f.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": server.URL, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": awsSecret, "AWS_SESSION_TOKEN": awsSession,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	return f
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := f.fault.Load(); fault != nil {
		(*fault)(w, r)
		return
	}
	var in struct {
		KeyID                     string `json:"KeyId"`
		Plaintext, CiphertextBlob []byte
		EncryptionContext         map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.t.Error(err)
	}
	signed := r.Header.Get("Authorization")
	if !strings.HasPrefix(signed, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(signed, "/eu-central-1/kms/") || r.Header.Get("X-Amz-Security-Token") != awsSession {
		refuse(w, "MissingAuthenticationTokenException", "not signed")
		return
	}
	if in.KeyID != awsARN {
		refuse(w, "NotFoundException", "Key '"+in.KeyID+"' does not exist")
		return
	}
	associated := []byte(fmt.Sprint(in.EncryptionContext))
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.Encrypt":
		nonce := make([]byte, f.aead.NonceSize())
		_, _ = rand.Read(nonce) // it never fails
		write(w, map[string]any{"KeyId": awsARN, "CiphertextBlob": f.aead.Seal(nonce, nonce, in.Plaintext, associated)})
	case "TrentService.Decrypt":
		size := min(f.aead.NonceSize(), len(in.CiphertextBlob))
		plaintext, err := f.aead.Open(nil, append(make([]byte, 0), in.CiphertextBlob[:size]...), in.CiphertextBlob[size:], associated)
		if err != nil {
			refuse(w, "InvalidCiphertextException", "")
			return
		}
		write(w, map[string]any{"KeyId": awsARN, "Plaintext": plaintext})
	default:
		refuse(w, "UnknownOperationException", r.Header.Get("X-Amz-Target"))
	}
}

func write(w http.ResponseWriter, out map[string]any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(out)
}

func refuse(w http.ResponseWriter, kind, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": message})
}

func TestAWS(t *testing.T) {
	startAWS(t)
	sealed := roundTrip(t, open(t, awsKey), nil)
	bound := roundTrip(t, open(t, awsKey), []byte("associated"))
	_, err := open(t, awsKey).DecryptWithContext(t.Context(), bound, []byte("other"))
	fails(t, err, "InvalidCiphertextException")
	changed := append([]byte(nil), sealed...)
	changed[len(changed)-1] ^= 1
	_, err = open(t, awsKey).DecryptWithContext(t.Context(), changed, nil)
	fails(t, err, "InvalidCiphertextException")
	_, err = open(t, awsKey+"2").DecryptWithContext(t.Context(), sealed, nil)
	fails(t, err, "NotFoundException")
}

func TestAWSFaults(t *testing.T) {
	f := startAWS(t)
	sealed := roundTrip(t, open(t, awsKey), nil)
	for name, c := range map[string]struct {
		fault http.HandlerFunc
		why   string
	}{
		"denied": {func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt")
		}, "AccessDeniedException: User is not authorized to perform: kms:Decrypt"},
		"garbage": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "deserialization failed"},
		"a fault": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "StatusCode: 500"},
	} {
		t.Run(name, func(t *testing.T) {
			f.fault.Store(&c.fault)
			_, err := open(t, awsKey).DecryptWithContext(t.Context(), sealed, nil)
			fails(t, err, c.why, awsSecret, awsSession)
		})
	}
	t.Run("silence", func(t *testing.T) {
		release := make(chan struct{})
		silent := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
		f.fault.Store(&silent)
		endsInTime(t, open(t, awsKey))
		close(release)
	})
	f.fault.Store(nil)
	t.Run("down", func(t *testing.T) {
		t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
		_, err := open(t, awsKey).DecryptWithContext(t.Context(), sealed, nil)
		fails(t, err, "connection refused", awsSecret, awsSession)
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		key, err := kms.Open(t.Context(), awsKey)
		if err == nil {
			_, err = key.DecryptWithContext(t.Context(), sealed, nil)
		}
		fails(t, err, "credentials", awsSession)
	})
}
