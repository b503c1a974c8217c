package teams

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Budget is a ceiling on spend. A nil Max is unlimited; a Max of 0 permits nothing.
type Budget struct {
	Max   *Micros
	Spend Micros
	// Window is how often the spend starts again at zero; the zero Window is never.
	Window Window
	// ResetAt is when it next does; the zero time is never.
	ResetAt time.Time
}

// SpendAt is the spend at an instant: nothing once the window has ended, whether or not the row has
// been reset since.
func (b Budget) SpendAt(now time.Time) Micros {
	if !b.ResetAt.IsZero() && !now.Before(b.ResetAt) {
		return 0
	}
	return b.Spend
}

// Exceeded reports whether nothing is left to spend: spend ≥ max.
func (b Budget) Exceeded(now time.Time) bool { return b.Max != nil && b.SpendAt(now) >= *b.Max }

// Window is the length of a budget's window: a count and a unit. The zero value is no window. It is small: each cached row
// has one.
type Window struct {
	count int16
	unit  windowUnit
}

type windowUnit uint8

// The units of a window. All windows are in UTC and end where a calendar or a clock would: a month
// at the first, a week on Monday, a day at midnight, an hour, minute or second at the full one.
const (
	windowSeconds windowUnit = iota + 1
	windowMinutes
	windowHours
	windowDays
	windowWeeks
	windowMonths
)

// String is the unit as it is written; empty for one that is none.
func (u windowUnit) String() string {
	texts := [...]string{windowSeconds: "s", windowMinutes: "m", windowHours: "h", windowDays: "d", windowWeeks: "w", windowMonths: "mo"}
	if int(u) < len(texts) {
		return texts[u]
	}
	return ""
}

// parseUnit returns the unit that is written so, if there is one.
func parseUnit(text string) (windowUnit, bool) {
	for u := windowSeconds; u <= windowMonths; u++ {
		if u.String() == text {
			return u, true
		}
	}
	return 0, false
}

// maxWindow bounds the count of any unit, so that no date arithmetic can overflow.
const maxWindow = 1000

// ParseWindow reads a window such as 30s, 15m, 1h, 7d, 2w or 1mo. The empty text is no window.
func ParseWindow(text string) (Window, error) {
	if text == "" {
		return Window{}, nil
	}
	digits := strings.TrimRight(text, "smhdwo")
	unit, known := parseUnit(text[len(digits):])
	count, err := strconv.ParseInt(digits, 10, 16)
	if err != nil || count < 1 || count > maxWindow || digits[0] < '0' || digits[0] > '9' || !known {
		return Window{}, fmt.Errorf("budget window %q: must be a number from 1 to %d and one of s, m, h, d, w, mo", text, maxWindow)
	}
	return Window{int16(count), unit}, nil
}

// String is the form that ParseWindow reads.
func (w Window) String() string {
	if w.count == 0 {
		return ""
	}
	return strconv.Itoa(int(w.count)) + w.unit.String()
}

// End returns when the window that now is in ends: the end of the current second, minute, hour, day,
// week or month, and count-1 more of them. The zero Window has no end: the zero time.
func (w Window) End(now time.Time) time.Time {
	now = now.UTC()
	year, month, day := now.Date()
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	count := int(w.count)
	switch w.unit {
	case windowSeconds:
		return now.Truncate(time.Second).Add(time.Duration(count) * time.Second)
	case windowMinutes:
		return now.Truncate(time.Minute).Add(time.Duration(count) * time.Minute)
	case windowHours:
		return now.Truncate(time.Hour).Add(time.Duration(count) * time.Hour)
	case windowDays:
		return midnight.AddDate(0, 0, count)
	case windowWeeks:
		sinceMonday := (int(now.Weekday()) + 6) % 7
		return midnight.AddDate(0, 0, 7*count-sinceMonday)
	case windowMonths:
		return time.Date(year, month+time.Month(count), 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Time{}
}
