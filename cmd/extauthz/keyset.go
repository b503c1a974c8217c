package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/extauthz/extauthz/internal/kms"
	"github.com/extauthz/extauthz/pkg/keys"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// keysetFile is the keyset that seals keys, read again when its file changes. Rotation waits for that
// twice: until every replica can open what the new key sealed, and until none seals with the old one.
type keysetFile struct {
	path   string
	kmsURI string // of the key that encrypts the file; empty: none
	sealer atomic.Pointer[keys.Sealer]
	read   string // what sealer was made from
}

// kmsTimeout bounds what is asked of a KMS at one time, the search for credentials included.
const kmsTimeout = 10 * time.Second

// openKeyset reads the keyset of the configuration; nil if there is none.
func openKeyset(ctx context.Context, s *configv1.Sealing) (*keysetFile, error) {
	if s == nil {
		return nil, nil
	}
	k := &keysetFile{path: s.GetKeysetFile(), kmsURI: s.GetKmsKeyUri()}
	_, err := k.load(ctx)
	if err != nil && !errors.Is(err, keys.ErrKMS) {
		err = usageError{err}
	}
	return k, err
}

// watched is the file, if there is one.
func (k *keysetFile) watched() []watched {
	if k == nil {
		return nil
	}
	return []watched{{name: "keyset", load: k.load}}
}

// load reads the file, and reports whether what it holds is new. Only then is the KMS asked.
func (k *keysetFile) load(ctx context.Context) (bool, error) {
	data, err := os.ReadFile(k.path)
	if err != nil {
		return false, fmt.Errorf("sealing.keyset_file: %w", err)
	}
	if string(data) == k.read {
		return false, nil
	}
	var sealer *keys.Sealer
	err = withKMSKey(ctx, k.kmsURI, func(ctx context.Context, key keys.KMSKey) (err error) {
		sealer, err = keys.NewSealer(ctx, data, key)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("sealing.keyset_file: %s: %w", k.path, err)
	}
	k.sealer.Store(sealer)
	k.read = string(data)
	return true, nil
}

// withKMSKey calls f with the key of this URI, or with none for an empty one.
func withKMSKey(ctx context.Context, uri string, f func(context.Context, keys.KMSKey) error) error {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	if uri == "" {
		return f(ctx, nil)
	}
	switch key, err := kms.Open(ctx, uri); {
	case errors.Is(err, kms.ErrURI):
		return usageError{err}
	case err != nil:
		return fmt.Errorf("%w: %w", keys.ErrKMS, err)
	default:
		return f(ctx, key)
	}
}

func (k *keysetFile) seal(secret keys.Secret) ([]byte, error) { return k.sealer.Load().Seal(secret) }

func (k *keysetFile) open(sealed []byte, id keys.ID) (keys.Secret, error) {
	return k.sealer.Load().Open(sealed, id)
}

func (k *keysetFile) current(sealed []byte, id keys.ID) bool {
	return k.sealer.Load().Current(sealed, id)
}

func newKeyset() *cobra.Command {
	c := &cobra.Command{Use: "keyset", Short: "Make and rotate the keyset that seals virtual keys", Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(newKeysetNew(), newKeysetRotate())
	return c
}

func addKMSFlag(c *cobra.Command, uri *string) *cobra.Command {
	c.Flags().StringVar(uri, "kms-key-uri", "", "URI of the KMS key that encrypts the keyset: "+kms.Forms)
	return c
}

func newKeysetNew() *cobra.Command {
	var uri string
	return addKMSFlag(&cobra.Command{
		Use:   "new FILE",
		Short: "Write a new keyset with one AES-256-GCM key",
		Long: `new writes a new Tink keyset with one AES-256-GCM key, readable by its owner alone. It is encrypted if a KMS
key is named, else not. It replaces no file.`,
		Args: oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			return withKMSKey(c.Context(), uri, func(ctx context.Context, key keys.KMSKey) error {
				data, err := keys.NewKeyset(ctx, key)
				if err != nil {
					return err
				}
				return createFile(args[0], data)
			})
		},
	}, &uri)
}

func newKeysetRotate() *cobra.Command {
	var uri string
	return addKMSFlag(&cobra.Command{
		Use:   "rotate FILE",
		Short: "Add a new key to a keyset and seal with it from now on",
		Long: `rotate adds a new key to a keyset and makes it the one that seals. The older keys stay, so that what
they sealed still opens. Running servers take the new keyset within seconds. An apply seals the keys that
its file has the text of with the new key; all others stay as they are.`,
		Args: oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return usageError{err}
			}
			return withKMSKey(c.Context(), uri, func(ctx context.Context, key keys.KMSKey) error {
				rotated, err := keys.RotateKeyset(ctx, data, key)
				switch {
				case errors.Is(err, keys.ErrKMS):
					return err
				case err != nil:
					return usageError{fmt.Errorf("%s: %w", args[0], err)}
				}
				return replaceFile(args[0], rotated)
			})
		},
	}, &uri)
}

// createFile writes a file that was not there.
func createFile(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("%s: the file exists; what its keys sealed could not be opened without them", path)}
	}
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// replaceFile puts a whole new file in the place of the old one, so that a reader sees one or the other.
func replaceFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".keyset-") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

func oneFile(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("one FILE is required; see `%s --help`", c.CommandPath())}
	}
	return nil
}
