package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/extauthz/extauthz/pkg/keys"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// keysetFile is the keyset that seals keys, read again when its file changes. Rotation waits for that
// twice: until every replica can open what the new key sealed, and until none seals with the old one.
type keysetFile struct {
	path   string
	sealer atomic.Pointer[keys.Sealer]
	read   string // what sealer was made from
}

// openKeyset reads the keyset of the configuration; nil if there is none.
func openKeyset(s *configv1.Sealing) (*keysetFile, error) {
	if s == nil {
		return nil, nil
	}
	k := &keysetFile{path: s.GetKeysetFile()}
	_, err := k.load()
	return k, err
}

// watched is the file, if there is one.
func (k *keysetFile) watched() []watched {
	if k == nil {
		return nil
	}
	return []watched{{name: "keyset", load: k.load}}
}

// load reads the file, and reports whether what it holds is new.
func (k *keysetFile) load() (bool, error) {
	data, err := os.ReadFile(k.path)
	if err != nil {
		return false, fmt.Errorf("sealing.keyset_file: %w", err)
	}
	if string(data) == k.read {
		return false, nil
	}
	sealer, err := keys.NewSealer(data)
	if err != nil {
		return false, fmt.Errorf("sealing.keyset_file: %s: %w", k.path, err)
	}
	k.sealer.Store(sealer)
	k.read = string(data)
	return true, nil
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

func newKeysetNew() *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "Write a new keyset with one AES-256-GCM key",
		Long:  "new writes a new Tink keyset with one AES-256-GCM key, unencrypted and readable by its owner alone. It replaces no file.",
		Args:  oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := keys.NewKeyset()
			if err != nil {
				return err
			}
			file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return usageError{fmt.Errorf("%s: the file exists; what its keys sealed could not be opened without them", args[0])}
			}
			if err != nil {
				return err
			}
			_, err = file.Write(data)
			return errors.Join(err, file.Close())
		},
	}
}

func newKeysetRotate() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate FILE",
		Short: "Add a new key to a keyset and seal with it from now on",
		Long: `rotate adds a new key to a keyset and makes it the one that seals. The older keys stay, so that what
they sealed still opens. Running servers take the new keyset within seconds. An apply seals the keys that
its file has the text of with the new key; all others stay as they are.`,
		Args: oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return usageError{err}
			}
			rotated, err := keys.RotateKeyset(data)
			if err != nil {
				return usageError{fmt.Errorf("%s: %w", args[0], err)}
			}
			return replaceFile(args[0], rotated)
		},
	}
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
