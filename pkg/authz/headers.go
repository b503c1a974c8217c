package authz

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// headers are the request's header values by lower-case name, in the order in which Envoy saw them.
type headers map[string][]string

// headersFrom reads the one form in which Envoy sent the headers. The joined form and the raw form
// are never mixed: with both, two parts of a system would see two requests.
func headersFrom(r *authv3.AttributeContext_HttpRequest) (headers, error) {
	joined, raw := r.GetHeaders(), r.GetHeaderMap().GetHeaders()
	if len(joined) > 0 && len(raw) > 0 {
		return nil, fmt.Errorf("%w: both forms of headers", ErrRequestMalformed)
	}
	h := make(headers, len(joined)+len(raw))
	for name, value := range joined {
		h.add(name, value)
	}
	for _, header := range raw {
		value, err := rawValue(header)
		if err != nil {
			return nil, err
		}
		h.add(header.GetKey(), value)
	}
	return h, nil
}

func rawValue(header *corev3.HeaderValue) (string, error) {
	value, raw := header.GetValue(), string(header.GetRawValue())
	if value != "" && raw != "" && value != raw {
		return "", fmt.Errorf("%w: two values of one header", ErrRequestMalformed)
	}
	return value + strings.TrimPrefix(raw, value), nil
}

func (h headers) add(name, value string) {
	name = strings.ToLower(name)
	h[name] = append(h[name], value)
}

// one returns the value of a header that may be sent at most once; "" if it was not sent. Envoy's
// joined form shows a second copy as a comma, so a comma is refused too.
func (h headers) one(name string) (string, error) {
	values := h[name]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1, strings.Contains(values[0], ","), !printable(values[0]):
		return "", fmt.Errorf("%w: header %s", ErrRequestMalformed, name)
	}
	return values[0], nil
}

// printable reports whether a header value is free of control characters.
func printable(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
}
