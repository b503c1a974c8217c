// Package rows holds what every store shares: the rules that a row keeps, the order in which a
// declared set becomes rows, and the errors that leave a store.
//
// Each rule stands in Go, where it can name the field at fault, and again as a CHECK or a key in
// the migrations, where it also binds hand-written SQL. The package trusts no caller and knows no
// driver: SQL and the translation of drivers' errors belong to the stores.
package rows

import (
	"errors"
	"fmt"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// ErrInvalid says that a row breaks a rule of the schema: trying again cannot help.
var ErrInvalid = errors.New("invalid row")

// Invalid is an [ErrInvalid] that names the field and the rule, never the value.
type Invalid struct {
	Field  string // as in the resource file; empty if only the database knows which
	Reason string // what is allowed
}

func (e *Invalid) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

// Unwrap returns [ErrInvalid].
func (*Invalid) Unwrap() error { return ErrInvalid }

// ErrOptions says that the store was described wrongly. Its text never repeats the URL, which may hold a
// password.
var ErrOptions = errors.New("store")

// ErrSchema says that the database's schema is not the one this binary was built for.
var ErrSchema = errors.New("wrong schema version")

// SchemaError is an [ErrSchema] with both versions. Have is 0 for a database that was never
// migrated.
type SchemaError struct {
	Have, Need int64
}

func (e *SchemaError) Error() string {
	remedy := "run `extauthz migrate`"
	if e.Have > e.Need {
		remedy = "use a newer extauthz"
	}
	return fmt.Sprintf("the database schema is at version %d, this binary needs %d: %s", e.Have, e.Need, remedy)
}

// Unwrap returns [ErrSchema].
func (*SchemaError) Unwrap() error { return ErrSchema }

// CheckVersion returns nil if the database has exactly the schema that the binary needs, else a
// [*SchemaError]. A newer schema is refused too, unless it says otherwise: its rows may mean something this binary ignores.
func CheckVersion(have, need int64) error {
	if have == need {
		return nil
	}
	return &SchemaError{Have: have, Need: need}
}

// Own reports whether err is a store's own error, made to leave it. Everything else comes from a
// driver and has to be translated first.
func Own(err error) bool {
	var refused *resource.Error
	if errors.As(err, &refused) {
		return true
	}
	for _, own := range []error{teams.ErrNotFound, mapping.ErrConflict, mapping.ErrLimited, ErrInvalid, ErrSchema} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}
