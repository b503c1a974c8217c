package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// ErrSealed says that a sealed key cannot be opened: it was sealed for another key, or by a keyset that
// is not this one, or it was changed.
var ErrSealed = errors.New("the sealed key cannot be opened")

// Sealer encrypts the text of virtual keys, so that it can be stored and handed to the upstream. The
// key's hash is bound to it: a sealed text moved to another row does not open. It is immutable and
// safe for concurrent use.
type Sealer struct {
	all     tink.AEAD // its primary key seals, every key opens
	primary tink.AEAD // the primary key alone
}

// KMSKey is a key in a key management service, which encrypts keysets. It is a tink.AEADWithContext.
type KMSKey interface {
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// ErrKMS says that the key management service did not do what it was asked for. What it said follows.
var ErrKMS = errors.New("KMS")

// NewSealer reads a Tink keyset in its JSON form: one that the KMS key encrypted, or an unencrypted one if the key is nil, and then
// whoever can read the file can open every sealed key. The keyset's primary key seals; all of its keys open. An error
// is [ErrKMS], or the keyset's fault. The KMS is not needed again.
func NewSealer(ctx context.Context, keysetJSON []byte, key KMSKey) (*Sealer, error) {
	handle, err := readKeyset(ctx, keysetJSON, key)
	if err != nil {
		return nil, err
	}
	all, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("keyset: it does not hold AEAD keys")
	}
	primary, err := primaryOf(handle)
	if err != nil {
		return nil, fmt.Errorf("keyset: %w", err)
	}
	return &Sealer{all, primary}, nil
}

// primaryOf returns what the keyset's primary key alone can open.
func primaryOf(handle *keyset.Handle) (tink.AEAD, error) {
	manager := keyset.NewManagerFromHandle(handle)
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, err
		}
		if entry.IsPrimary() {
			continue
		}
		if err := manager.Delete(entry.KeyID()); err != nil {
			return nil, err
		}
	}
	alone, err := manager.Handle()
	if err != nil {
		return nil, err
	}
	return aead.New(alone)
}

// readKeyset reads a keyset. Tink's own errors are left out: they may quote the file.
func readKeyset(ctx context.Context, keysetJSON []byte, key KMSKey) (*keyset.Handle, error) {
	reader := keyset.NewJSONReader(bytes.NewReader(keysetJSON))
	if key == nil {
		handle, err := insecurecleartextkeyset.Read(reader)
		if err != nil {
			return nil, errors.New("keyset: it is not an unencrypted Tink keyset in JSON")
		}
		return handle, nil
	}
	asked := &askedKey{key: key}
	handle, err := keyset.ReadWithContext(ctx, reader, asked, nil)
	switch {
	case asked.err != nil:
		return nil, asked.err
	case err != nil:
		return nil, errors.New("keyset: it is not a Tink keyset in JSON that a KMS encrypted")
	}
	return handle, nil
}

// askedKey keeps the KMS's own error, of which Tink makes a text of its own.
type askedKey struct {
	key KMSKey
	err error
}

func (k *askedKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return k.answer(k.key.EncryptWithContext(ctx, plaintext, associatedData))
}

func (k *askedKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return k.answer(k.key.DecryptWithContext(ctx, ciphertext, associatedData))
}

// answer puts what the KMS said into one line of bounded length.
func (k *askedKey) answer(text []byte, err error) ([]byte, error) {
	if err != nil {
		k.err = fmt.Errorf("%w: %.512s", ErrKMS, strings.Join(strings.Fields(err.Error()), " "))
	}
	return text, err
}

// Seal encrypts a key's text.
func (s *Sealer) Seal(secret Secret) ([]byte, error) {
	sealed, err := s.all.Encrypt([]byte(secret), []byte(secret.ID()))
	if err != nil {
		return nil, fmt.Errorf("seal a key: %w", err)
	}
	return sealed, nil
}

// Open decrypts the text of the key with this id. The error is ErrSealed.
func (s *Sealer) Open(sealed []byte, id ID) (Secret, error) { return open(s.all, sealed, id) }

// Current reports whether the primary key sealed the text of the key with this id. Sealed again, it would
// have other bytes and mean the same.
func (s *Sealer) Current(sealed []byte, id ID) bool {
	_, err := open(s.primary, sealed, id)
	return err == nil
}

func open(primitive tink.AEAD, sealed []byte, id ID) (Secret, error) {
	text, err := primitive.Decrypt(sealed, []byte(id))
	if err != nil || Secret(text).ID() != id {
		return "", ErrSealed
	}
	return Secret(text), nil
}

// NewKeyset returns a new keyset with one AES-256-GCM key, encrypted by the KMS key, or not at all if that is nil. An error may
// be [ErrKMS].
func NewKeyset(ctx context.Context, key KMSKey) ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	return writeKeyset(ctx, handle, key)
}

// RotateKeyset adds a new key to a keyset and makes it the primary one. The others stay, so that what
// they sealed still opens. Errors are those of [NewSealer].
func RotateKeyset(ctx context.Context, keysetJSON []byte, key KMSKey) ([]byte, error) {
	handle, err := readKeyset(ctx, keysetJSON, key)
	if err != nil {
		return nil, err
	}
	manager := keyset.NewManagerFromHandle(handle)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	if err := manager.SetPrimary(id); err != nil {
		return nil, err
	}
	if handle, err = manager.Handle(); err != nil {
		return nil, err
	}
	return writeKeyset(ctx, handle, key)
}

func writeKeyset(ctx context.Context, handle *keyset.Handle, key KMSKey) ([]byte, error) {
	var out bytes.Buffer
	writer := keyset.NewJSONWriter(&out)
	if key == nil {
		err := insecurecleartextkeyset.Write(handle, writer)
		return out.Bytes(), err
	}
	asked := &askedKey{key: key}
	err := handle.WriteWithContext(ctx, writer, asked, nil)
	if asked.err != nil {
		err = asked.err
	}
	return out.Bytes(), err
}
