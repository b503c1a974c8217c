package cache_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/internal/cache"
)

// The bounds of the cache under the model. No two deadlines fall on one instant: which comes first would be chance.
const (
	modelTTL       = 30 * time.Second
	modelShortTTL  = 11 * time.Second // of values with a companion
	modelAbsentTTL = 2 * time.Second
	modelStale     = 20 * time.Second
	modelBlind     = 3 * time.Second
	modelTimeout   = 2*time.Second + 3  // of a load
	modelDeadline  = 1*time.Second + 20 // of a caller
)

var errDown = errors.New("down")

// TestModel runs a cache against a model of a database with other writers: changes are committed, told late or
// lost; loads hang before and after they read; the database fails; time passes; and callers ask at any moment. No
// caller may get a row that had been replaced when the caller came, but within the bounds that the package states.
//
// Each step runs in a bubble whose clock is the test's and whose goroutines are at rest between steps, so that a
// failure is the same each time and rapid can make it small.
func TestModel(t *testing.T) {
	for range 5 { // of 100 runs each
		rapid.Check(t, func(r *rapid.T) {
			var failure any
			synctest.Test(t, func(bubble *testing.T) {
				defer func() { failure = recover() }() // rapid's own: it must reach rapid's goroutine
				m := newModel(r, bubble)
				defer m.end()
				r.Repeat(m.actions())
			})
			if failure != nil {
				panic(failure)
			}
		})
	}
}

type model struct {
	t     *rapid.T
	cache *cache.Cache[string, row]
	feed  *cache.Feed
	near  [2]cache.Near // of two callers

	mu      sync.Mutex
	history map[string][]commit // never empty
	down    bool
	loads   []*load

	floor     map[string]int // per key or companion: the last commit of the row that the cache was told of by it, or that it gave to somebody
	overlaps  map[string]int // per key: loads that began beside an older one, which may then read more than they
	connected bool
	untold    []told // commits that will be told
	ended     atomic.Bool
}

// commit is one state of a row, which names its companion, if it has one.
type commit struct {
	at        time.Time
	found     bool
	companion string
}

// row is what the cache gets: the number of its commit, and its companion.
type row struct {
	commit    int
	companion string
}

func (r row) digest() (uint64, bool) { return digest(r.companion), r.companion != "" }

// modelCompanions are the companions that a row may have. A commit that leaves the row with the one that it had may be told as
// the companion's.
var modelCompanions = map[string][]string{"a": {"", "a's", "a's other"}, "b": {""}}

// told is how a commit is told: by its key or its companion's.
type told struct{ key, name string }

// load is a load under way. Each send on next lets it take one step: read, return.
type load struct {
	key  string
	next chan struct{}
}

func newModel(t *rapid.T, bubble *testing.T) *model {
	m := &model{
		connected: true, t: t, feed: cache.NewFeed(modelBlind, nil), floor: map[string]int{}, overlaps: map[string]int{},
		history: map[string][]commit{"a": {{found: true}}, "b": {{found: false}}},
	}
	m.feed.Open(time.Now())
	m.cache = cache.New(cache.Options[string, row]{
		Load: m.load, NotFound: errAbsent, Feed: m.feed,
		Digest: digest, TTL: modelTTL, AbsentTTL: modelAbsentTTL, ServeStale: modelStale,
		Companion: row.digest, CompanionTTL: modelShortTTL,
		Space: roomFor(bubble, 100, 100), Size: func(string, row) int { return 0 }, LoadTimeout: modelTimeout,
	})
	return m
}

// end lets every goroutine of the bubble end.
func (m *model) end() {
	m.ended.Store(true)
	time.Sleep(modelTimeout)
	synctest.Wait()
	m.cache.Close()
}

// load reads the row as the database does: it sees what is committed when it reads, whatever happens before it
// returns.
func (m *model) load(ctx context.Context, key string) (row, error) {
	l := &load{key: key, next: make(chan struct{})}
	beside := len(m.underWay(key)) > 0
	m.mu.Lock()
	if beside {
		m.overlaps[key]++
	}
	m.loads = append(m.loads, l)
	m.mu.Unlock()
	defer m.forget(l)
	if !l.step(ctx) {
		return row{}, ctx.Err()
	}
	m.mu.Lock()
	history, down := m.history[key], m.down
	m.mu.Unlock()
	switch {
	case !l.step(ctx):
		return row{}, ctx.Err()
	case down:
		return row{}, errDown
	case !history[len(history)-1].found:
		return row{}, errAbsent
	}
	return row{len(history) - 1, history[len(history)-1].companion}, nil
}

func (l *load) step(ctx context.Context) bool {
	select {
	case <-l.next:
		return true
	case <-ctx.Done():
		return false
	}
}

func (m *model) forget(l *load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.loads {
		if m.loads[n] == l {
			m.loads = append(m.loads[:n:n], m.loads[n+1:]...)
			return
		}
	}
}

func (m *model) underWay(key string) []*load {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*load
	for _, l := range m.loads {
		if key == "" || l.key == key {
			list = append(list, l)
		}
	}
	return list
}

var modelKeys = rapid.SampledFrom([]string{"a", "b"})

func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"ask": func(t *rapid.T) {
			key := modelKeys.Draw(t, "key")
			m.fail(rapid.IntRange(0, 3).Draw(t, "database") == 0)
			m.askAs(key, rapid.IntRange(0, 2).Draw(t, "caller"))
			for range rapid.SampledFrom([]int{0, 1, 2, 2, 2}).Draw(t, "steps of its load") {
				m.advanceAll(key)
			}
		},
		"load goes on": func(t *rapid.T) {
			if list := m.underWay(""); len(list) > 0 {
				m.advance(rapid.SampledFrom(list).Draw(t, "load"))
			}
		},
		"commit": func(t *rapid.T) { m.commit(t, modelKeys.Draw(t, "key")) },
		"commit during a load": func(t *rapid.T) {
			key := modelKeys.Draw(t, "key")
			m.ask(key)
			m.advanceAll(key)
			m.commit(t, key)
			time.Sleep(rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "pause"))
			if rapid.Bool().Draw(t, "another") {
				m.ask(key)
			}
			m.advanceAll(key)
		},
		"tell":    func(*rapid.T) { m.tell(1) },
		"confirm": func(t *rapid.T) { m.confirm(t) },
		"feed": func(t *rapid.T) {
			m.connected, m.untold = rapid.Bool().Draw(t, "connected"), nil
			if m.connected {
				m.feed.Open(time.Now())
			}
		},
		"forget all": func(*rapid.T) {
			m.cache.InvalidateAll()
			for key := range m.history {
				m.know(key, len(m.history[key])-1)
			}
		},
		"forget all with a companion": func(*rapid.T) {
			m.cache.CompanionsChanged(nil)
			for key, names := range modelCompanions {
				for _, name := range names[1:] {
					m.know(name, len(m.history[key])-1)
				}
			}
		},
		"time": func(t *rapid.T) {
			time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 29 * time.Second}).Draw(t, "pass"))
		},
		"": func(*rapid.T) { synctest.Wait() },
	}
}

// fail makes the database fail, or work again.
func (m *model) fail(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *model) advance(l *load) {
	select {
	case l.next <- struct{}{}:
	default:
	}
	synctest.Wait()
}

func (m *model) advanceAll(key string) {
	for _, l := range m.underWay(key) {
		m.advance(l)
	}
}

// commit changes the row, or writes it as it was. The cache is told later, at once, or never because the feed was cut;
// or the change is our own.
func (m *model) commit(t *rapid.T, key string) {
	found, news := rapid.Bool().Draw(t, "found"), rapid.SampledFrom([]string{"later", "now", "never", "ours"}).Draw(t, "news")
	if news == "never" {
		m.connected, m.untold = false, nil
	}
	name := m.write(t, key, found)
	switch news {
	case "now":
		m.tell(len(m.untold))
	case "ours":
		m.cache.Changed([]uint64{digest(name)})
		m.know(name, len(m.history[key])-1)
	}
}

// write returns what the commit is told as.
func (m *model) write(t *rapid.T, key string, found bool) (name string) {
	before := m.history[key][len(m.history[key])-1]
	next := commit{found: found}
	switch {
	case found && before.companion != "" && rapid.Bool().Draw(t, "of the companion"):
		name, next.companion = before.companion, before.companion
	case found:
		name, next.companion = key, rapid.SampledFrom(modelCompanions[key]).Draw(t, "companion")
	default:
		name = key
	}
	time.Sleep(time.Microsecond) // no two events are at once
	m.mu.Lock()
	next.at = time.Now()
	m.history[key] = append(m.history[key], next)
	m.mu.Unlock()
	if m.connected {
		m.untold = append(m.untold, told{key, name})
	}
	time.Sleep(time.Microsecond)
	return name
}

// tell tells the cache of the oldest commits that it has not been told of, at most so many.
func (m *model) tell(most int) {
	for ; most > 0 && len(m.untold) > 0; most-- {
		next := m.untold[0]
		m.untold = m.untold[1:]
		m.cache.Changed([]uint64{digest(next.name)})
		state := len(m.history[next.key]) - 1
		for _, other := range m.untold {
			if other.key == next.key {
				state--
			}
		}
		m.know(next.name, state)
	}
}

// confirm is a round trip on the feed's connection: when it is back, what was committed before it began was told. What
// was committed meanwhile may not have been.
func (m *model) confirm(t *rapid.T) {
	if !m.connected {
		return
	}
	began, told := time.Now(), len(m.untold)
	if rapid.Bool().Draw(t, "with a commit") {
		m.write(t, modelKeys.Draw(t, "key"), rapid.Bool().Draw(t, "found"))
	}
	time.Sleep(rapid.SampledFrom([]time.Duration{0, 2 * time.Second}).Draw(t, "trip"))
	m.tell(told)
	m.feed.Confirm(began)
}

// know notes that from here on nobody may get an older state of the row.
func (m *model) know(name string, state int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.floor[name] = max(m.floor[name], state)
}

// ask asks the cache as nobody.
func (m *model) ask(key string) { m.askAs(key, len(m.near)) }

// askAs asks the cache as one of the callers, and checks the answer whenever it comes.
func (m *model) askAs(key string, caller int) {
	m.mu.Lock()
	floor, overlaps, asked := maps.Clone(m.floor), m.overlaps[key], time.Now()
	m.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), modelDeadline)
		defer cancel()
		if caller < len(m.near) {
			ctx = withNear(ctx, &m.near[caller])
		}
		value, origin, err := m.cache.Get(ctx, key)
		if m.ended.Load() || err != nil && !errors.Is(err, errAbsent) {
			return // a failure is never wrong
		}
		state, ok := m.permitted(key, floor, asked, value.commit, origin, err != nil)
		if !ok {
			m.t.Errorf("%s, asked %s ago: got %+v, origin %d, %v; not to be older than commits %v", key, time.Since(asked), value, origin, err, floor)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if overlaps == m.overlaps[key] {
			m.floor[key] = max(m.floor[key], state)
		}
	}()
	synctest.Wait()
}

// permitted returns the oldest state of the row that is the answer and not too old.
func (m *model) permitted(key string, floor map[string]int, asked time.Time, value int, origin cache.Origin, absent bool) (state int, ok bool) {
	oldest := asked.Add(-max(modelBlind, modelTimeout)) // a load may have been under way
	switch {
	case origin == cache.Stale && absent:
		oldest = time.Now().Add(-modelAbsentTTL - modelStale)
	case origin == cache.Stale:
		oldest = time.Now().Add(-modelTTL - modelStale)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	history := m.history[key]
	for n := floor[key]; n < len(history); n++ {
		if n < floor[history[n].companion] {
			continue
		}
		replaced := n+1 < len(history) && history[n+1].at.Before(oldest)
		if history[n].found != absent && (absent || n == value) && !replaced {
			return n, true
		}
	}
	return 0, false
}
