package resource_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/teams"
)

func TestParseAmount(t *testing.T) {
	accepted := map[string]teams.Micros{
		"0":                 0,
		"0.000001":          1,
		"0.1":               100_000,
		"1":                 1_000_000,
		"25.50":             25_500_000,
		"0.300000":          300_000,
		"4503599627.370497": 4_503_599_627_370_497, // needs 53 bits: a double would still hold it
		"8999999999.999999": 8_999_999_999_999_999, // a double would not
		"9000000000":        9_000_000_000_000_000,
		"9000000000.000000": 9_000_000_000_000_000,
	}
	for text, want := range accepted {
		if got, err := resource.ParseAmount(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ".", "1.", ".5", "-1", "+1", "-0", "1e3", "1_000", "1,000", " 1", "1 ", "01", "00", "00.5", "0x1", "1.0000000", "0.0000001",
		"9000000000.000001", "9000000001", "99999999999", "18446744073709551617", ".nan", ".inf", "NaN", "Inf", "١", "1.2.3",
	} {
		if got, err := resource.ParseAmount(text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}

func TestFormatAmount(t *testing.T) {
	for amount, want := range map[teams.Micros]string{
		0: "0", 1: "0.000001", 100_000: "0.1", 1_000_000: "1", 10_000_000: "10", 25_500_000: "25.5", -1_500_000: "-1.5",
	} {
		if got := resource.FormatAmount(amount); got != want {
			t.Errorf("%d: got %s, want %s", amount, got, want)
		}
	}
}

func TestAmountRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := amounts().Draw(t, "amount")
		got, err := resource.ParseAmount(resource.FormatAmount(want))
		if err != nil || got != want {
			t.Fatalf("got %d, %v; want %d", got, err, want)
		}
	})
}

func amounts() *rapid.Generator[teams.Micros] {
	return rapid.Map(rapid.Int64Range(0, 9_000_000_000_000_000), func(n int64) teams.Micros { return teams.Micros(n) })
}
