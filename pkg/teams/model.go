package teams

import "strings"

// ModelState says what is known of the model that a request asks for.
type ModelState int

const (
	// ModelUnreadable means that the route carries a model and it could not be read. It is the zero
	// value: where models are restricted, it is denied.
	ModelUnreadable ModelState = iota
	// ModelAbsent means that the route carries no model.
	ModelAbsent
	// ModelKnown means that the request names exactly one model.
	ModelKnown
)

// Model is the model that a request asks for. Name is empty unless State is [ModelKnown].
type Model struct {
	State ModelState
	Name  string
}

// String is the model as an explanation shows it.
func (m Model) String() string {
	switch m.State {
	case ModelAbsent:
		return "none on this route"
	case ModelKnown:
		return m.Name
	}
	return "unreadable"
}

// allowModel returns nil if the patterns permit the model. An empty list restricts nothing.
func allowModel(patterns []string, model Model) error {
	switch {
	case len(patterns) == 0 || model.State == ModelAbsent:
		return nil
	case model.State != ModelKnown:
		return ErrModelRequired
	}
	for _, pattern := range patterns {
		if matchModel(pattern, model.Name) {
			return nil
		}
	}
	return ErrModelForbidden
}

// matchModel compares byte for byte; a * in the pattern matches any characters, or none.
func matchModel(pattern, name string) bool {
	prefix, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	if !strings.HasPrefix(name, prefix) {
		return false
	}
	if rest == "" {
		return true
	}
	name = name[len(prefix):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], after
	}
}
