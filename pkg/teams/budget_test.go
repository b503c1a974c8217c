package teams_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/pkg/teams"
)

func TestBudget(t *testing.T) {
	ceiling := func(n teams.Micros) *teams.Micros { return &n }
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		budget   teams.Budget
		exceeded bool
	}{
		{teams.Budget{}, false},
		{teams.Budget{Spend: 1 << 60}, false},
		{teams.Budget{Max: ceiling(0)}, true},
		{teams.Budget{Max: ceiling(10), Spend: 9}, false},
		{teams.Budget{Max: ceiling(10), Spend: 10}, true},
		{teams.Budget{Max: ceiling(10), Spend: 11}, true},
		{teams.Budget{Max: ceiling(10), Spend: 11, ResetAt: now.Add(time.Nanosecond)}, true},
		{teams.Budget{Max: ceiling(10), Spend: 11, ResetAt: now}, false},
		{teams.Budget{Max: ceiling(0), ResetAt: now}, true}, // nothing permitted, ever
	} {
		if got := c.budget.Exceeded(now); got != c.exceeded {
			t.Errorf("%+v: exceeded %v", c.budget, got)
		}
	}
}

func TestWindowEnd(t *testing.T) {
	for _, c := range []struct{ window, now, end string }{
		{"30s", "2026-03-01T12:00:00.5Z", "2026-03-01T12:00:30Z"},
		{"15m", "2026-03-01T12:07:59Z", "2026-03-01T12:22:00Z"},
		{"1h", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"},
		{"1h", "2026-03-01T12:59:59Z", "2026-03-01T13:00:00Z"},
		{"1d", "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"},
		{"1d", "2028-02-28T23:59:59Z", "2028-02-29T00:00:00Z"},
		{"7d", "2026-12-28T01:00:00Z", "2027-01-04T00:00:00Z"},
		{"1w", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"}, // a Monday
		{"1w", "2026-11-22T23:00:00Z", "2026-11-23T00:00:00Z"}, // a Sunday
		{"2w", "2026-11-25T12:00:00Z", "2026-12-07T00:00:00Z"},
		{"1mo", "2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z"},
		{"1mo", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"},
		{"3mo", "2026-11-15T00:00:00Z", "2027-02-01T00:00:00Z"},
		{"1d", "2026-03-29T01:30:00+02:00", "2026-03-29T00:00:00Z"}, // UTC, whatever the local clock does
	} {
		window, err := teams.ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		now, _ := time.Parse(time.RFC3339Nano, c.now)
		if end := window.End(now).Format(time.RFC3339Nano); end != c.end {
			t.Errorf("%s at %s ends %s, want %s", c.window, c.now, end, c.end)
		}
	}
}

func TestNoWindowHasNoEnd(t *testing.T) {
	if end := (teams.Window{}).End(time.Now()); !end.IsZero() {
		t.Errorf("it ends %v", end)
	}
}

func TestBadWindows(t *testing.T) {
	for _, text := range []string{"0d", "-1d", "+1d", "d", "1", "1y", "1.5h", "1 d", "1001d", "1dd", "1om", "99999999999999999999d", "1mos"} {
		if _, err := teams.ParseWindow(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestWindowAlwaysEndsLater(t *testing.T) {
	units := []string{"s", "m", "h", "d", "w", "mo"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[1-9][0-9]{0,2}").Draw(t, "count") + rapid.SampledFrom(units).Draw(t, "unit")
		window, err := teams.ParseWindow(text)
		if err != nil || window.String() != text {
			t.Fatalf("%q: %v, %v", text, window, err)
		}
		now := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "now"), 0)
		if end := window.End(now); !end.After(now) {
			t.Fatalf("%s at %s ends %s", text, now, end)
		}
	})
}
