package ascii_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/extauthz/extauthz/internal/ascii"
)

func plain(text string, class func(byte) bool) bool {
	for n := range len(text) {
		if !class(text[n]) {
			return false
		}
	}
	return true
}

// compare requires that each question has the answer that the bytes give one by one.
func compare(t *testing.T, text string) {
	t.Helper()
	for name, got := range map[string][2]bool{
		"Only":      {ascii.Only(text), plain(text, func(c byte) bool { return c < 0x80 })},
		"Printable": {ascii.Printable(text), plain(text, func(c byte) bool { return c >= ' ' && c < 0x7f })},
		"Lower":     {ascii.Lower(text), plain(text, func(c byte) bool { return c < 0x80 && (c < 'A' || c > 'Z') })},
		"UTF8":      {ascii.UTF8(text), utf8.ValidString(text)},
		"Dashed":    {ascii.Dashed(text), plain(text, func(c byte) bool { return c < 0x80 && (c < 'A' || c > 'Z') && c != '_' })},
	} {
		if got[0] != got[1] {
			t.Errorf("%s(%q) is %t", name, text, got[0])
		}
	}
}

// Every byte at every place of texts of up to three words, among bytes from which a sum could carry over.
func TestEveryByte(t *testing.T) {
	for _, around := range []string{"a", " ", "~", "\xff", "\x7f", "\x00", "_", "`", "^"} {
		for length := range 25 {
			for at := range length {
				for c := range 256 {
					compare(t, strings.Repeat(around, at)+string([]byte{byte(c)})+strings.Repeat(around, length-at-1))
				}
			}
		}
	}
}

func FuzzAgainstBytes(f *testing.F) {
	f.Add("x-stainless-lang")
	f.Fuzz(compare)
}

func BenchmarkLower(b *testing.B) {
	for b.Loop() {
		ascii.Lower("x-stainless-retry-count")
	}
}
