package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/teams"
)

// storeFlags say which store a command works on: the configuration's, or one given directly.
type storeFlags struct {
	config string
	url    string
}

// storeURLVariable keeps a password off the command line, where every user of the machine sees it.
const storeURLVariable = "EXTAUTHZ_STORE_URL"

func (f *storeFlags) add(c *cobra.Command) {
	addConfigFlag(c, &f.config)
	c.Flags().StringVar(&f.url, "store", os.Getenv(storeURLVariable),
		"store URL (sqlite:PATH or postgres://…) instead of the configuration's; also $"+storeURLVariable)
	c.Flags().Lookup("store").DefValue = "" // the variable may hold a password: help must not show it
}

func (f *storeFlags) options() (store.Options, error) {
	if f.url != "" {
		return store.Options{URL: f.url}, nil
	}
	settings, err := config.Load(f.config)
	if err != nil {
		return store.Options{}, usageError{err}
	}
	if settings.GetStore().GetUrl() == "none" {
		return store.Options{}, usageError{errors.New(f.config + ": store.url is none: there is no store to work on")}
	}
	return storeOptions(settings.GetStore()), nil
}

// exists refuses a SQLite file that is not there, which opening would make: to export a mistyped one would
// look like an empty store.
func (f *storeFlags) exists() error {
	options, err := f.options()
	if err != nil {
		return err
	}
	return fileExists(options.URL)
}

func fileExists(url string) error {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if _, err := os.Stat(path); ok && errors.Is(err, fs.ErrNotExist) {
		return usageError{fmt.Errorf("%s: no such file; `extauthz migrate` makes it", path)}
	}
	return nil
}

// open opens the store and makes sure that it answers, with the schema of this binary.
func (f *storeFlags) open(ctx context.Context) (store.Store, error) {
	options, err := f.options()
	if err != nil {
		return nil, err
	}
	opened, err := openWith(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := opened.Ready(ctx); err != nil {
		opened.Close()
		return nil, err
	}
	return opened, nil
}

func openWith(ctx context.Context, options store.Options) (store.Store, error) {
	opened, err := store.Open(ctx, options)
	if err != nil {
		return nil, storeError(err)
	}
	return opened, nil
}

// storeError tells a store that was described wrongly from one that could not be opened.
func storeError(err error) error {
	if errors.Is(err, store.ErrOptions) {
		return usageError{err}
	}
	return err
}

// seal seals the keys whose text the file has, if the configuration says how.
func (f *storeFlags) seal(ctx context.Context, stored store.Store, set *resource.Set) error {
	if f.url != "" {
		return nil // no configuration is read
	}
	settings, err := config.Load(f.config)
	if err != nil {
		return usageError{err}
	}
	seals, err := openKeyset(ctx, settings.GetSealing())
	if err != nil || seals == nil {
		return err
	}
	for n := range set.Keys {
		if err := sealKey(ctx, stored, seals, &set.Keys[n]); err != nil {
			return err
		}
	}
	return nil
}

// sealKey seals a key whose text is stated. A stored text that the keyset's primary key sealed is left as
// it is, so that applying a file again changes nothing; one that an older key sealed, or that does not
// open, is replaced.
func sealKey(ctx context.Context, stored store.Store, seals *keysetFile, key *resource.Key) error {
	if key.Secret == "" {
		return nil
	}
	row, err := stored.Key(ctx, key.ID)
	switch {
	case err == nil && seals.current(row.Sealed, key.ID):
		return nil
	case err != nil && !errors.Is(err, teams.ErrNotFound):
		return err
	}
	key.Sealed, err = seals.seal(key.Secret)
	return err
}

func newMigrate() *cobra.Command {
	var flags storeFlags
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the store's schema to this binary's version",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			options, err := flags.options()
			if err != nil {
				return err
			}
			from, to, err := store.Migrate(c.Context(), options)
			if err != nil {
				return storeError(err)
			}
			if from == to {
				_, err = fmt.Fprintf(c.OutOrStdout(), "schema is at version %d, nothing to do\n", to)
			} else {
				_, err = fmt.Fprintf(c.OutOrStdout(), "schema migrated from version %d to %d\n", from, to)
			}
			return err
		},
	}
	flags.add(c)
	return c
}

func newApply() *cobra.Command {
	var flags storeFlags
	var file string
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or update the resources that a file declares",
		Long: `apply creates or updates the organizations, teams, users, keys and mappings that a file declares, all
or none of them, and leaves all others alone. Applying a file again changes nothing.

Where the configuration has a keyset, the keys whose text the file has are stored sealed. After a
rotation of the keyset, an apply seals them anew, with the new key.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			name, data, err := readInput(file, c.InOrStdin())
			if err != nil {
				return err
			}
			set, places, err := resource.Parse(name, data)
			if err != nil {
				return usageError{err}
			}
			opened, err := flags.open(c.Context())
			if err != nil {
				return err
			}
			defer opened.Close()
			if err := flags.seal(c.Context(), opened, set); err != nil {
				return err
			}
			if err := opened.Apply(c.Context(), set); err != nil {
				return applyError(err, places)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "applied %d organizations, %d teams, %d users, %d keys, %d mappings\n",
				len(set.Organizations), len(set.Teams), len(set.Users), len(set.Keys), len(set.Mappings))
			return err
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "resource file, or - for standard input (required)")
	flags.add(c)
	return c
}

func applyError(err error, places *resource.Locator) error {
	var refused *resource.Error
	if errors.As(err, &refused) {
		return usageError{places.Locate(err)}
	}
	return err
}

// maxResourceFile bounds what is read into memory: some 200,000 resources.
const maxResourceFile = 64 << 20

func readInput(file string, stdin io.Reader) (name string, data []byte, err error) {
	switch file {
	case "":
		return "", nil, usageError{errors.New("--file is required: a resource file, or - for standard input")}
	case "-":
		data, err = io.ReadAll(io.LimitReader(stdin, maxResourceFile+1))
		name = "standard input"
	default:
		var opened *os.File
		if opened, err = os.Open(file); err != nil {
			return "", nil, usageError{err}
		}
		defer func() { _ = opened.Close() }()
		data, err = io.ReadAll(io.LimitReader(opened, maxResourceFile+1))
		name = file
	}
	if err == nil && len(data) > maxResourceFile {
		err = usageError{fmt.Errorf("%s: larger than %d MiB", name, maxResourceFile>>20)}
	}
	return name, data, err
}

func newExport() *cobra.Command {
	var flags storeFlags
	c := &cobra.Command{
		Use:   "export",
		Short: "Print everything in the store as a resource file",
		Long:  "export prints everything in the store as a resource file. Keys are printed by their hash: their text is not stored.",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.exists(); err != nil {
				return err
			}
			opened, err := flags.open(c.Context())
			if err != nil {
				return err
			}
			defer opened.Close()
			set, err := opened.Export(c.Context())
			if err != nil {
				return err
			}
			data, err := resource.Format(set)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(data)
			return err
		},
	}
	flags.add(c)
	return c
}
