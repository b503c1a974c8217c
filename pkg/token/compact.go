package token

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// maxTokenBytes bounds a token before anything looks at it (CVE-2025-30204: the work grew with the dots).
const maxTokenBytes = 16 << 10

// jws is a token taken apart. Nothing in it is to be trusted before its signature holds.
type jws struct {
	header    header
	payload   string // still in base64url
	signed    string // header and payload, as they were signed
	signature []byte
}

// refuse wraps the sentinel with a detail for the log. The detail never holds token text or claim values.
func refuse(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))
}

// parseCompact reads a JWS in compact form (RFC 7515 section 7.1), from the outside in, cheapest check first.
func parseCompact(raw string) (jws, error) {
	segments, err := splitCompact(raw)
	if err != nil {
		return jws{}, err
	}
	signature, err := decodeBase64("signature", segments[2])
	if err != nil {
		return jws{}, err
	}
	members, err := decodeSegment("header", segments[0])
	if err != nil {
		return jws{}, err
	}
	head, err := parseHeader(members)
	if err != nil {
		return jws{}, err
	}
	signed := raw[:len(segments[0])+1+len(segments[1])]
	return jws{header: head, payload: segments[1], signed: signed, signature: signature}, nil
}

// splitCompact checks size, alphabet and the number of segments. The alphabet is checked by hand because
// base64 decoders skip line breaks, strict ones too (measured). Five segments
// would be a JWE, none of which is decrypted or parsed (CVE-2024-28180, CVE-2026-34986).
func splitCompact(raw string) (segments [3]string, err error) {
	if len(raw) > maxTokenBytes {
		return segments, refuse(ErrMalformed, "longer than %d bytes", maxTokenBytes)
	}
	for i := range len(raw) {
		if raw[i] != '.' && !isBase64URL(raw[i]) {
			return segments, refuse(ErrMalformed, "byte %d is outside the base64url alphabet", i)
		}
	}
	if strings.Count(raw, ".") != 2 {
		return segments, refuse(ErrMalformed, "not three segments")
	}
	segments = [3]string(strings.Split(raw, "."))
	if slices.Contains(segments[:], "") {
		return segments, refuse(ErrMalformed, "a segment is empty")
	}
	return segments, nil
}

func isBase64URL(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// decodeBase64 is strict: unused bits must be zero, so that a token has one spelling (RFC 4648 section 3.5).
func decodeBase64(name, segment string) ([]byte, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: not strict base64url", name)
	}
	return text, nil
}

// decodeSegment decodes a segment that must be a JSON object.
func decodeSegment(name, segment string) (map[string]any, error) {
	text, err := decodeBase64(name, segment)
	if err != nil {
		return nil, err
	}
	object, err := decodeObject(text)
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %v", name, err)
	}
	return object, nil
}
