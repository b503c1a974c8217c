package rows

import "github.com/extauthz/extauthz/pkg/teams"

// Scanner is a row of a driver.
type Scanner interface {
	Scan(destinations ...any) error
}

// WithMore is a row with one more column than its scan function knows.
type WithMore struct {
	Scanner
	Last any
}

// Scan implements [Scanner].
func (w WithMore) Scan(destinations ...any) error {
	return w.Scanner.Scan(append(destinations, w.Last)...)
}

// Only scans a row that is followed by how many there are like it. One of several is [teams.ErrAmbiguous].
func Only[T any](scan func(Scanner) (*T, error)) func(Scanner) (*T, error) {
	return func(row Scanner) (*T, error) {
		var count int
		found, err := scan(WithMore{row, &count})
		if err == nil && count > 1 {
			return nil, teams.ErrAmbiguous
		}
		return found, err
	}
}
