package resource

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/extauthz/extauthz/pkg/teams"
)

// AllowedAmount says in words what [ParseAmount] takes.
const AllowedAmount = "a decimal number from 0 to 9000000000 with at most 6 decimals"

const (
	decimals = 6
	one      = teams.Micros(1_000_000)
	// maxAmount is 9e9 units: far from where sums of int64 would overflow.
	maxAmount = 9_000_000_000 * one
)

// ParseAmount converts decimal text exactly: no binary fraction is ever involved. It takes plain digits only, no sign,
// exponent or separator, and no leading zero but the one before a point.
func ParseAmount(text string) (teams.Micros, error) {
	fault := errors.New("not " + AllowedAmount)
	whole, fraction, pointed := strings.Cut(text, ".")
	if !isDigits(whole, 10) || (pointed && !isDigits(fraction, decimals)) || (len(whole) > 1 && whole[0] == '0') {
		return 0, fault
	}
	digits := whole + fraction + strings.Repeat("0", decimals-len(fraction))
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || teams.Micros(n) > maxAmount {
		return 0, fault
	}
	return teams.Micros(n), nil
}

func isDigits(text string, limit int) bool {
	return text != "" && len(text) <= limit && strings.Trim(text, "0123456789") == ""
}

// FormatAmount writes an amount as [ParseAmount] reads it, without zeros at the end of the decimals. A negative amount
// gets a sign, which ParseAmount refuses.
func FormatAmount(m teams.Micros) string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	text := fmt.Sprintf("%s%d.%06d", sign, m/one, m%one)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
