package resource

import (
	"errors"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/pkg/keys"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// MaxFileBytes is the largest resource file that is read: some 400,000 keys.
const MaxFileBytes = 64 << 20

// Locator says where in its file a resource is.
type Locator struct{ file *yamlfile.File }

// Locate turns an [*Error] into one that names the file, line and column, in the form of [Parse]. Any other error is
// returned unchanged.
func (l *Locator) Locate(err error) error {
	var fault *Error
	if !errors.As(err, &fault) {
		return err
	}
	path := yamlfile.Element(fault.Section, fault.Index)
	if fault.Field != "" {
		path += "." + fault.Field
	}
	return l.file.At(path, fault.Reason, "")
}

// Parse reads a resource file whole, or returns the first error in it, on one line: FILE:LINE:COL: PATH: what is wrong;
// allowed: what would be right. An error never repeats a key's secret. The set holds hashes only.
func Parse(name string, data []byte) (*Set, *Locator, error) {
	if len(data) > MaxFileBytes {
		return nil, nil, &yamlfile.Error{File: name, Line: 1, Column: 1, Reason: "the file is too large", Allowed: "at most 64 MiB"}
	}
	message := new(configv1.ResourceFile)
	file, err := yamlfile.Decode(name, data, message, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := file.Validate(message); err != nil {
		return nil, nil, err
	}
	r := reader{file: file}
	set := r.set(message)
	r.duplicates(set)
	if err := file.Err(); err != nil {
		return nil, nil, err
	}
	return set, &Locator{file}, nil
}

// duplicates reports the second of two resources that would be the same row.
func (r *reader) duplicates(set *Set) {
	seen := map[any]bool{}
	unique := func(identity any, section string, index int, field, reason string) {
		if seen[identity] {
			r.file.Report(yamlfile.Element(section, index)+field, reason, "each once")
		}
		seen[identity] = true
	}
	for i := range set.Organizations {
		unique(set.Organizations[i].ID, "organizations", i, ".id", "is the id of an earlier organization")
	}
	for i := range set.Teams {
		unique(set.Teams[i].ID, "teams", i, ".id", "is the id of an earlier team")
	}
	for i := range set.Users {
		unique(set.Users[i].ID, "users", i, ".id", "is the id of an earlier user")
	}
	for i := range set.Keys {
		r.duplicateKey(&set.Keys[i].Key, i, unique)
	}
	for i := range set.Mappings {
		m := set.Mappings[i].Mapping
		m.KeyID, m.Active, m.AutoRegistered = "", false, false // what is left is the row's identity
		unique(m, "mappings", i, "", "has the issuer, claim and value of an earlier mapping")
	}
}

// alias is a type of its own so that it never equals an identifier in the set of those seen.
type alias string

func (r *reader) duplicateKey(key *keys.Key, index int, unique func(any, string, int, string, string)) {
	if key.ID != "" {
		path := yamlfile.Element("keys", index)
		field := r.file.First(path+".hash", path+".secret")[len(path):]
		unique(key.ID, "keys", index, field, "is the same key as an earlier one")
	}
	if key.Alias != "" {
		unique(alias(key.Alias), "keys", index, ".alias", "is the alias of an earlier key")
	}
}
