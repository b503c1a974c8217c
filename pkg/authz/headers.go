package authz

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/pkg/authz/wire"
)

// headers are the request's headers under their lower-case names, in the order in which Envoy saw them. A list
// and no map: few of some twenty are looked up.
type headers []field

type field struct{ name, value string }

// headersFrom reads the one form in which Envoy sent the headers. The joined form and the raw form
// are never mixed: with both, two parts of a system would see two requests.
func headersFrom(r *authv3.AttributeContext_HttpRequest) (headers, error) {
	joined, raw := r.GetHeaders(), r.GetHeaderMap().GetHeaders()
	if len(joined) > 0 && len(raw) > 0 {
		return nil, fmt.Errorf("%w: both forms of headers", ErrRequestMalformed)
	}
	h := make(headers, 0, len(joined)+len(raw))
	for name, value := range joined {
		h = append(h, field{strings.ToLower(name), value})
	}
	for _, sent := range raw {
		value, err := rawValue(sent)
		if err != nil {
			return nil, err
		}
		h = append(h, field{strings.ToLower(sent.GetKey()), value})
	}
	return h, nil
}

func rawValue(header *corev3.HeaderValue) (string, error) {
	value, raw := header.GetValue(), wire.Text(header.GetRawValue())
	if value != "" && raw != "" && value != raw {
		return "", fmt.Errorf("%w: two values of one header", ErrRequestMalformed)
	}
	return value + strings.TrimPrefix(raw, value), nil
}

// first returns the first value of a header, and how often the header was sent.
func (h headers) first(name string) (value string, count int) {
	for _, sent := range h {
		if sent.name != name {
			continue
		}
		if count == 0 {
			value = sent.value
		}
		count++
	}
	return value, count
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
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
}
