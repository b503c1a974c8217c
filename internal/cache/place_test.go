package cache

import "testing"

// Changes are counted before they are noted, and may be noted in another order: an earlier one must not take the place of a
// later one, though that is not remembered by itself any more.
func TestAChangeThatIsNotedLate(t *testing.T) {
	var p *place
	for _, change := range []change{{7, 2}, {1, 3}, {2, 4}, {3, 5}, {4, 6}, {7, 1}} {
		p = p.with(change.digest, change.number)
	}
	if last := p.last(7); last < 2 {
		t.Errorf("the last change is said to be number %d; it was 2", last)
	}
	p = p.with(7, 9).with(7, 8)
	if last := p.last(7); last != 9 {
		t.Errorf("the last change is said to be number %d; it was 9", last)
	}
}
