// Package ascii looks at texts eight bytes at a time. Nearly every text of a request is short and plain; whether it is must
// not cost more than to read it.
package ascii

import "unicode/utf8"

// Only reports whether the text is ASCII.
func Only(text string) bool { return !anyWord(text, foreign) }

// UTF8 reports whether the text is UTF-8, and at once where it is ASCII.
func UTF8(text string) bool { return Only(text) || utf8.ValidString(text) }

// Printable reports whether the text is printable ASCII, which a space is and a control character is not.
func Printable(text string) bool { return !anyWord(text, unprintable) }

// Lower reports whether the text is ASCII without upper-case letters.
func Lower(text string) bool { return !anyWord(text, notLower) }

// Dashed reports whether the text is ASCII without upper-case letters and without a "_", as the names of headers are.
func Dashed(text string) bool { return !anyWord(text, notDashed) }

const (
	each = 0x0101010101010101 // a 1 in each byte
	high = each << 7
)

// A class has the high bit of a byte set that is of it; the other bits say nothing. In the sums below no byte carries over
// into the next one, if all are ASCII; if not, foreign has a bit.

func foreign(word uint64) uint64 { return word }

func unprintable(word uint64) uint64 {
	return word | ^(word + each*(0x80-' ')) | (word + each)
}

func notLower(word uint64) uint64 {
	return word | (word+each*(0x80-'A'))&^(word+each*(0x7f-'Z'))
}

func notDashed(word uint64) uint64 {
	underscores := word ^ each*'_' // are 0
	return notLower(word) | (underscores-each)&^underscores
}

// anyWord reports whether the text has a byte of the class. The last word overlaps the one before it; a shorter text is
// filled up.
func anyWord(text string, class func(uint64) uint64) bool {
	last := len(text) - 8
	if last < 0 {
		word := uint64(each * 'a')
		for n := range len(text) {
			word = word<<8 | uint64(text[n])
		}
		return class(word)&high != 0
	}
	found := class(load(text[last:]))
	for at := 0; at < last; at += 8 {
		found |= class(load(text[at:]))
	}
	return found&high != 0
}

func load(text string) uint64 {
	_ = text[7]
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}
