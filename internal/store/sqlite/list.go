package sqlite

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/extauthz/extauthz/internal/store/rows"
)

// errList says that a list holds something else than non-empty texts. Its row is not read at all: an
// element that is dropped could leave an empty list, which restricts nothing.
var errList = errors.New("models and allowed_routes must be JSON arrays of texts")

// list is a list of texts as a JSON array.
type list struct{ to *[]string }

// Scan implements [sql.Scanner].
func (l list) Scan(source any) error {
	text, ok := source.(string)
	if !ok {
		return errList
	}
	var elements []*string // pointers, because null would become an empty text
	if err := json.Unmarshal([]byte(text), &elements); err != nil {
		return errList
	}
	*l.to = nil
	for _, element := range elements {
		if element == nil {
			return errList
		}
		*l.to = append(*l.to, *element)
	}
	if rows.CheckList("", *l.to) != nil {
		return errList
	}
	return nil
}

// array is the list as a parameter.
func array(elements []string) string {
	if len(elements) == 0 {
		return "[]"
	}
	text, err := json.Marshal(elements)
	if err != nil {
		return "" // cannot happen for texts; no list, so the database would refuse it
	}
	return string(text)
}

// timestamp is the time as a parameter, NULL for never.
func timestamp(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	micros := t.UnixMicro()
	return &micros
}
