// Package kms opens keys in a key management service (KMS) by their URI: the transit engine of HashiCorp Vault or OpenBao, and AWS
// KMS.
//
// It trusts the process's environment for addresses and credentials: the variables and files that the service's own tools
// read. What a key encrypts is left to the caller.
package kms

import (
	"context"
	"errors"
	"regexp"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
)

// Key encrypts and decrypts in the KMS; it never leaves it. Its methods fail with what the KMS said, or when ctx ends. They are
// safe for concurrent use.
type Key interface {
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// Forms are the URIs that there are, in words.
const Forms = "hcvault://HOST:PORT/MOUNT/keys/NAME, hcvault:///MOUNT/keys/NAME (with the address in VAULT_ADDR), aws-kms://ARN"

// ErrURI says that a URI has none of the [Forms].
var ErrURI = errors.New("the URI of a KMS key must be one of " + Forms)

var (
	vaultForm = regexp.MustCompile(`^hcvault://([A-Za-z0-9.:\[\]-]*)/([A-Za-z0-9_./-]+)/keys/([A-Za-z0-9_.-]+)$`)
	awsForm   = regexp.MustCompile(`^aws-kms://(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]+:(?:key|alias)/.+)$`)
)

// Open returns the key with this URI. The error is [ErrURI], or what is wrong with the environment. It does not ask the KMS:
// whether the key is there, and may be used, shows when it is. ctx bounds the search for credentials.
func Open(ctx context.Context, uri string) (Key, error) {
	if parts := vaultForm.FindStringSubmatch(uri); parts != nil {
		return openVault(parts[1], parts[2], parts[3])
	}
	if parts := awsForm.FindStringSubmatch(uri); parts != nil {
		return awskms.NewAEADWithContext(ctx, parts[1])
	}
	return nil, ErrURI
}
