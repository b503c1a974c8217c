// Package yamlfile reads a YAML file into a protobuf message, strictly, and says of every fault
// where in the file it is.
//
// The keys of the file are the field names of the message and nothing else: an unknown or repeated
// key, a null, an alias, a second document or a value of another type is refused. The rules in the
// message's protovalidate options are checked by [File.Validate]; what they cannot say is checked by
// the callers, who report it with [File.Report] and [File.Refuse]. The package trusts nothing in the
// file, and never repeats a value that came from the environment or that the schema marks as
// debug_redact.
package yamlfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
	"gopkg.in/yaml.v3"
)

// MaxValueBytes is the longest text that a value may have, after expansion.
const MaxValueBytes = 4096

// maxShownBytes is the longest value that an error repeats.
const maxShownBytes = 80

// Error is one fault of a file. It formats as a single line.
type Error struct {
	File         string
	Line, Column int    // from 1
	Path         string // as in issuers[0].audiences[1]; empty for the whole document
	Reason       string // what is wrong, without the value if that must not be seen
	Allowed      string // what would be right; may be empty
}

// Error returns FILE:LINE:COL: PATH: what is wrong; allowed: what would be right.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Line, e.Column, cmp.Or(e.Path, "document"), e.Reason)
	if e.Allowed != "" {
		text += "; allowed: " + e.Allowed
	}
	return strings.Map(printable, text)
}

// printable keeps an error on one line whatever the file's name is.
func printable(r rune) rune {
	if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
		return '?'
	}
	return r
}

// File is a decoded file: where everything is, and what was found to be wrong. It is not safe for
// concurrent use.
type File struct {
	name   string
	schema protoreflect.MessageDescriptor
	root   *yaml.Node // nil for an empty file
	hidden map[*yaml.Node]bool
	faults []*Error
}

// Has reports whether the file states a value at path.
func (f *File) Has(path string) bool {
	_, exact := f.find(path)
	return exact
}

// First returns the first of the paths that the file states, or the first of all.
func (f *File) First(paths ...string) string {
	if i := slices.IndexFunc(paths, f.Has); i >= 0 {
		return paths[i]
	}
	return paths[0]
}

// At returns the error for the place of path, or of the innermost thing around it that the file states.
func (f *File) At(path, reason, allowed string) *Error {
	fault := &Error{File: f.name, Line: 1, Column: 1, Path: path, Reason: reason, Allowed: allowed}
	if node, _ := f.find(path); node != nil {
		fault.Line, fault.Column = node.Line, node.Column
	}
	return fault
}

// Report notes a fault at path. If allowed is empty, it is what the schema says.
func (f *File) Report(path, reason, allowed string) {
	if allowed == "" {
		allowed = f.allowedAt(path)
	}
	f.faults = append(f.faults, f.At(path, reason, allowed))
}

// Refuse notes a fault of the value at path, as [File.Report] does. The predicate follows the value, where that may be shown.
func (f *File) Refuse(path, predicate, allowed string) {
	node, exact := f.find(path)
	if !exact {
		node = nil
	}
	f.Report(path, f.show(node)+" "+predicate, allowed)
}

// Err returns the fault that comes first in the file, or nil.
func (f *File) Err() error {
	if len(f.faults) == 0 {
		return nil
	}
	return slices.MinFunc(f.faults, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// show returns a value in quotes, or a word for it if it must not be seen or cannot be in a line.
func (f *File) show(node *yaml.Node) string {
	if node == nil || node.Kind != yaml.ScalarNode || f.hidden[node] || len(node.Value) > maxShownBytes {
		return "the value"
	}
	return fmt.Sprintf("%q", node.Value)
}
