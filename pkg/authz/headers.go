package authz

import (
	"fmt"
	"strings"

	"github.com/extauthz/extauthz/internal/ascii"
	"github.com/extauthz/extauthz/pkg/authz/wire"
)

// headers are the request's headers under their lower-case names, in the order in which Envoy saw them. A list
// and no map: few of some twenty are looked up.
type headers struct {
	list []wire.Header
	odd  []string // the names in it with a "_"
}

// headersFrom reads the one form in which Envoy sent the headers. The joined form and the raw form
// are never mixed: with both, two parts of a system would see two requests. The raw form is changed in place. With an error
// come all headers whose names are known.
func headersFrom(in *wire.Request) (h headers, err error) {
	switch {
	case len(in.Headers) > 0 && len(in.HeaderMap) > 0:
		err = fmt.Errorf("%w: both forms of headers", ErrRequestMalformed)
	case in.Contradiction:
		err = fmt.Errorf("%w: two values of one header", ErrRequestMalformed)
	}
	h.list = in.HeaderMap
	for name, value := range in.Headers {
		h.list = append(h.list, wire.Header{Name: name, Value: value})
	}
	if !in.Plain || len(in.Headers) > 0 {
		h.lowerNames()
	}
	return h, err
}

// lowerNames brings the names into lower case.
func (h *headers) lowerNames() {
	for n := range h.list {
		name := &h.list[n].Name
		*name = strings.ToLower(*name)
		if strings.Contains(*name, "_") {
			h.odd = append(h.odd, *name)
		}
	}
}

// lower is strings.ToLower, but at once for what is in lower case already.
func lower(name string) string {
	if ascii.Lower(name) {
		return name
	}
	return strings.ToLower(name)
}

// first returns the first value of a header, and how often the header was sent.
func (h headers) first(name string) (value string, count int) {
	var f field
	for n := range h.list {
		if h.list[n].Name == name {
			f.add(h.list[n].Value)
		}
	}
	return f.value, f.count
}

// field is a header that was looked for: its first value, and how often it was sent.
type field struct {
	value string
	count int
}

func (f *field) add(value string) {
	if f.count == 0 {
		f.value = value
	}
	f.count++
}

// bodyHeaders are those that say what a body is. Looking for one after the other takes four times as long.
type bodyHeaders struct{ partial, contentType, contentEncoding, upgrade field }

func (h headers) ofBody() (b bodyHeaders) {
	for n := range h.list {
		switch value := h.list[n].Value; h.list[n].Name {
		case partialBodyHeader:
			b.partial.add(value)
		case "content-type":
			b.contentType.add(value)
		case "content-encoding":
			b.contentEncoding.add(value)
		case "upgrade":
			b.upgrade.add(value)
		}
	}
	return b
}

// has reports whether the header was sent, with whatever value.
func (h headers) has(name string) bool {
	_, count := h.first(name)
	return count > 0
}

// one returns the value of a header that may be sent at most once; "" if it was not sent. Envoy's
// joined form shows a second copy as a comma, so a comma is refused too.
func (h headers) one(name string) (string, error) {
	value, count := h.first(name)
	if count > 1 || strings.Contains(value, ",") || !printable(value) {
		return "", fmt.Errorf("%w: header %s", ErrRequestMalformed, name)
	}
	return value, nil
}

// printable reports whether a header value is free of control characters.
func printable(value string) bool {
	for n := range len(value) {
		if value[n] < ' ' || value[n] == 0x7f {
			return false
		}
	}
	return true
}
