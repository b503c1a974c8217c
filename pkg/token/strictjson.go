package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxJSONDepth bounds nesting before it costs a stack (CVE-2025-6203, CVE-2025-59043).
const maxJSONDepth = 32

// decodeObject decodes a JSON object that every reader understands the same way (RFC 7493, I-JSON): no
// member name twice at any level, valid UTF-8 and no lone surrogates (both become U+FFFD in
// encoding/json, and two subjects one), bounded depth, and nothing but white space after it. Numbers
// stay text. Its errors say where, but repeat nothing of the input.
func decodeObject(text []byte) (map[string]any, error) {
	decoder := strictDecoder(text)
	if decoder.PeekKind() != jsontext.KindBeginObject {
		return nil, errors.New("not a JSON object")
	}
	value, err := decodeValue(decoder)
	if err != nil {
		return nil, anonymous(err)
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return value.(map[string]any), nil
}

// strictDecoder sets what are jsontext's defaults, because the meaning of tokens hangs on them.
func strictDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text),
		jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
}

// anonymous drops what jsontext quotes of its input.
func anonymous(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("an object has a member name twice")
	case errors.As(err, &syntax):
		return fmt.Errorf("not strict JSON at byte %d", syntax.ByteOffset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("JSON is cut short")
	}
	return err
}

func decodeValue(decoder *jsontext.Decoder) (any, error) {
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	if decoder.StackDepth() > maxJSONDepth {
		return nil, fmt.Errorf("JSON is nested deeper than %d", maxJSONDepth)
	}
	switch token.Kind() {
	case jsontext.KindBeginObject:
		return decodeMembers(decoder)
	case jsontext.KindBeginArray:
		return decodeElements(decoder)
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return json.Number(token.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	}
	return nil, nil // the only kind left is null
}

func decodeMembers(decoder *jsontext.Decoder) (any, error) {
	object := map[string]any{}
	for decoder.PeekKind() != jsontext.KindEndObject {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // before the next read, which overwrites the token's memory
		if object[key], err = decodeValue(decoder); err != nil {
			return nil, err
		}
	}
	_, err := decoder.ReadToken()
	return object, err
}

func decodeElements(decoder *jsontext.Decoder) (any, error) {
	array := []any{}
	for decoder.PeekKind() != jsontext.KindEndArray {
		value, err := decodeValue(decoder)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := decoder.ReadToken()
	return array, err
}
