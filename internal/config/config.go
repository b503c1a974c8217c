// Package config reads the configuration file of `extauthz serve`.
//
// It decides whether a file is a configuration that can be served: strict YAML, the rules in
// proto/extauthz/config/v1, and the combinations that contradict each other. It fills in every default, so that
// readers meet no unset value that has one. It trusts the operator's file and environment to mean what
// they say; whether addresses can be bound, and issuers and databases reached, is left to those
// who use them.
package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// MaxFileBytes is the largest configuration file that is read.
const MaxFileBytes = 1 << 20

// maxSecretBytes is the largest file that a *_file field may name.
const maxSecretBytes = 64 << 10

// Load reads the configuration file at path, expands variables of the process's environment, reads the file that
// store.url_file names, and fills in the defaults. It does not read the files of the listeners' TLS, which are not there
// for every command. An error is one line, FILE:LINE:COL: PATH: what is wrong;
// allowed: what would be right. Of several faults it is the first in the file, where one in the YAML or in a
// value's type comes before any in what the values mean.
func Load(path string) (*configv1.Config, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, os.LookupEnv)
}

// Read returns the content of a configuration file, for [Parse] and [ParseToServe]. Its errors have the form of Load's.
func Read(path string) ([]byte, error) {
	data, err := readFile(path, MaxFileBytes)
	if err != nil {
		return nil, &yamlfile.Error{File: path, Line: 1, Column: 1, Reason: err.Error(), Allowed: "a readable file of at most 1 MiB"}
	}
	return data, nil
}

// Parse is [Load] for a file that was read already; the name is for the errors. It reads the file that
// store.url_file names, and nothing else.
func Parse(name string, data []byte, lookup yamlfile.Lookup) (*configv1.Config, error) {
	return parse(name, data, lookup, func(*checker) {})
}

// ParseToServe is [Parse] for whoever opens the listeners: the files of their TLS must be usable.
func ParseToServe(name string, data []byte, lookup yamlfile.Lookup) (*configv1.Config, error) {
	return parse(name, data, lookup, (*checker).tlsFiles)
}

func parse(name string, data []byte, lookup yamlfile.Lookup, more func(*checker)) (*configv1.Config, error) {
	c := new(configv1.Config)
	file, err := yamlfile.Decode(name, data, c, lookup)
	if err != nil {
		return nil, err
	}
	check := checker{file: file, config: c}
	check.stated()
	if err := file.Validate(c); err != nil {
		return nil, err
	}
	check.readSecrets()
	setDefaults(c)
	check.meaning()
	more(&check)
	if err := file.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// readSecrets replaces the name of a file by what is in it. The error names the field and never the content.
func (c *checker) readSecrets() {
	store := c.config.GetStore()
	if store.GetUrlFile() == "" || store.Url != nil {
		return
	}
	const allowed = "a readable file of at most 64 KiB that holds the URL"
	data, err := readFile(store.GetUrlFile(), maxSecretBytes)
	url := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		c.file.Report("store.url_file", err.Error(), allowed)
	case url == "":
		c.file.Report("store.url_file", "names a file that is empty", allowed)
	default:
		store.Url = &url
	}
}

// readFile returns a file's content. Its errors do not repeat the file's name.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unreadable(err)
	}
	if int64(len(data)) > limit {
		return nil, errors.New("the file is too large")
	}
	return data, nil
}

func unreadable(err error) error {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		err = failed.Err
	}
	return errors.New("the file cannot be read: " + err.Error())
}
