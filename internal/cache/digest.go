package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// Digest names a row to processes that may not be told what is in it: the first eight bytes of the SHA-256
// of the fields, each after its length in bytes and a colon. The database computes the same (the function
// extauthz_digests). Two rows with one digest are only forgotten together.
func Digest(fields ...string) uint64 {
	var text []byte
	for _, field := range fields {
		text = strconv.AppendInt(text, int64(len(field)), 10)
		text = append(text, ':')
		text = append(text, field...)
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])
}
