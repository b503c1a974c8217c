package keys

import (
	"bytes"
	"errors"
	"fmt"

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

// NewSealer reads a Tink keyset in its JSON form, unencrypted: whoever can read the file can open every
// sealed key. Its primary key seals; all of its keys open.
func NewSealer(keysetJSON []byte) (*Sealer, error) {
	handle, err := readKeyset(keysetJSON)
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
func readKeyset(keysetJSON []byte) (*keyset.Handle, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(keysetJSON)))
	if err != nil {
		return nil, errors.New("keyset: it is not an unencrypted Tink keyset in JSON")
	}
	return handle, nil
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

// NewKeyset returns a new keyset with one AES-256-GCM key.
func NewKeyset() ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	return writeKeyset(handle)
}

// RotateKeyset adds a new key to a keyset and makes it the primary one. The others stay, so that what
// they sealed still opens.
func RotateKeyset(keysetJSON []byte) ([]byte, error) {
	handle, err := readKeyset(keysetJSON)
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
	return writeKeyset(handle)
}

func writeKeyset(handle *keyset.Handle) ([]byte, error) {
	var out bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&out)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
