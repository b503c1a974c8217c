// Package ascii looks at texts eight bytes at a time. Nearly every text of a request is short and plain; whether it is must
// not cost more than to read it.
package ascii

// Only reports whether the text is ASCII.
func Only(text string) bool { return !anyWord(text, foreign) }

// Printable reports whether the text is printable ASCII, which a space is and a control character is not.
func Printable(text string) bool { return !anyWord(text, unprintable) }

// Lower reports whether the text is ASCII without upper-case letters.
func Lower(text string) bool { return !anyWord(text, notLower) }

// Dashed reports whether the text is ASCII without upper-case letters and without a "_", as the names of headers are.
func Dashed(text string) bool { return !anyWord(text, notDashed) }

const (
	each = 0x0101010101010101 // a byte of 1 in each place
	high = each << 7
)

// foreign has the high bit of each byte set that is not ASCII.
func foreign(word uint64) uint64 { return word & high }

// In the sums below no byte carries over into the next one, if all are ASCII; if not, foreign has a bit.

func unprintable(word uint64) uint64 {
	return foreign(word) | ^(word+each*(0x80-' '))&high | (word+each)&high
}

func notLower(word uint64) uint64 {
	return foreign(word) | (word+each*(0x80-'A'))&^(word+each*(0x7f-'Z'))&high
}

func notDashed(word uint64) uint64 {
	underscores := word ^ each*'_' // are 0
	return notLower(word) | (underscores-each)&^underscores&high
}

// anyWord reports whether the text has a word of eight bytes for which the class is not 0; the last word is filled up.
func anyWord(text string, class func(uint64) uint64) bool {
	for ; len(text) >= 8; text = text[8:] {
		if class(uint64(text[0])|uint64(text[1])<<8|uint64(text[2])<<16|uint64(text[3])<<24|
			uint64(text[4])<<32|uint64(text[5])<<40|uint64(text[6])<<48|uint64(text[7])<<56) != 0 {
			return true
		}
	}
	last := uint64(each * 'a')
	for n := range len(text) {
		last = last<<8 | uint64(text[n])
	}
	return class(last) != 0
}
