package token

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxKeys bounds a key set; a real one has one to four.
const maxKeys = 100

// errKidUnknown says that the key set has no key of that name: the one case where fetching it anew may help.
var errKidUnknown = fmt.Errorf("%w: no key of the issuer has this kid", ErrInvalid)

// keySet is one issuer's usable keys at one moment. It never changes.
type keySet struct {
	keys    []*publicKey
	byKid   map[string]*publicKey
	skipped []string // why other entries are not usable
}

// find returns the one key that may verify a token with this header: the one its kid names, or without
// kid the only key that fits. Trying several would let the token shop for a key.
func (s *keySet) find(h header, alg algorithm) (*publicKey, error) {
	if !h.hasKid {
		return s.only(alg)
	}
	key, ok := s.byKid[h.kid]
	if !ok {
		return nil, fmt.Errorf("%w: %s", errKidUnknown, quoted(h.kid))
	}
	if !key.fits(alg) {
		return nil, refuse(ErrInvalid, "the key %s is not for %s", quoted(h.kid), alg.method.Alg())
	}
	return key, nil
}

func (s *keySet) only(alg algorithm) (*publicKey, error) {
	var found *publicKey
	for _, key := range s.keys {
		switch {
		case !key.fits(alg):
		case found != nil:
			return nil, refuse(ErrInvalid, "header: kid is missing and several keys fit")
		default:
			found = key
		}
	}
	if found == nil {
		return nil, refuse(ErrInvalid, "header: kid is missing and no key fits")
	}
	return found, nil
}

// parseKeySet reads a JWK Set (RFC 7517 section 5). An entry that is broken, unsupported or not for
// verifying is skipped, as the RFC asks, so that it cannot take the good keys with it; a set without a
// usable key is an error, so that it cannot replace the last good one.
func parseKeySet(text []byte, algorithms allowedAlgorithms) (*keySet, error) {
	entries, err := keyEntries(text)
	if err != nil {
		return nil, err
	}
	set := &keySet{byKid: map[string]*publicKey{}}
	for n, entry := range entries {
		key, err := parseKey(entry, algorithms)
		if err != nil {
			set.skipped = append(set.skipped, fmt.Sprintf("keys[%d]: %v", n, err))
			continue
		}
		set.keys = append(set.keys, key)
	}
	set.index()
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("key set: no usable key in %d entries: %v", len(entries), set.skipped)
	}
	return set, nil
}

// index drops all keys that share a kid, since which of them the issuer meant is anyone's guess
// (RFC 7517 section 4.5 asks for distinct ones), and names the rest.
func (s *keySet) index() {
	count := map[string]int{}
	for _, key := range s.keys {
		count[key.kid]++
	}
	var kept []*publicKey
	for _, key := range s.keys {
		if key.kid != "" && count[key.kid] > 1 {
			s.skipped = append(s.skipped, fmt.Sprintf("kid %s is there %d times", quoted(key.kid), count[key.kid]))
			continue
		}
		kept = append(kept, key)
		if key.kid != "" {
			s.byKid[key.kid] = key
		}
	}
	s.keys = kept
}

// keyEntries returns the elements of the "keys" array as they stand. It is lenient inside of them, because
// each is judged by itself.
func keyEntries(text []byte) ([]jsontext.Value, error) {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(text),
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if begin, err := decoder.ReadToken(); err != nil || begin.Kind() != jsontext.KindBeginObject {
		return nil, errors.New("key set: not a JSON object")
	}
	var entries []jsontext.Value
	for decoder.PeekKind() == jsontext.KindString {
		more, err := memberEntries(decoder)
		if err != nil {
			return nil, fmt.Errorf("key set: %w", err)
		}
		if more == nil {
			continue
		}
		if entries != nil {
			return nil, errors.New("key set: keys is there twice")
		}
		entries = more
	}
	return entries, endOfObject(decoder)
}

// memberEntries reads one member: the elements of "keys", nil for any other.
func memberEntries(decoder *jsontext.Decoder) ([]jsontext.Value, error) {
	name, err := decoder.ReadToken()
	if err != nil {
		return nil, anonymous(err)
	}
	if name.String() != "keys" {
		return nil, anonymous(decoder.SkipValue())
	}
	return arrayElements(decoder)
}

func arrayElements(decoder *jsontext.Decoder) ([]jsontext.Value, error) {
	if begin, err := decoder.ReadToken(); err != nil || begin.Kind() != jsontext.KindBeginArray {
		return nil, errors.New("keys is not an array")
	}
	elements := []jsontext.Value{}
	for decoder.PeekKind() != jsontext.KindEndArray {
		if len(elements) == maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, anonymous(err)
		}
		elements = append(elements, value.Clone())
	}
	_, err := decoder.ReadToken()
	return elements, err
}

func endOfObject(decoder *jsontext.Decoder) error {
	if _, err := decoder.ReadToken(); err != nil {
		return errors.New("key set: not JSON")
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("key set: text after the JSON object")
	}
	return nil
}
