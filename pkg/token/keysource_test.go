package token

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// fakeFetch answers an issuer's fetches, in a synctest bubble, where time passes only while all wait.
type fakeFetch struct {
	mu      sync.Mutex
	set     *keySet
	started []time.Time
	behaves fakeBehaviour
}

type fakeBehaviour struct {
	err      error
	panics   bool
	takes    time.Duration
	hangs    bool // until its context ends
	stubborn bool // takes its time even if its context ends
}

func (f *fakeFetch) behave(b fakeBehaviour) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behaves = b
}

// serve sets the one key of the answers from now on, also of the fetch under way.
func (f *fakeFetch) serve(t *testing.T, kid string) {
	t.Helper()
	key := &publicKey{kid: kid, public: weakTestKeys(t).ed25519}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set = &keySet{keys: []*publicKey{key}, byKid: map[string]*publicKey{kid: key}}
}

func (f *fakeFetch) fetch(ctx context.Context) (*keySet, error) {
	f.mu.Lock()
	f.started = append(f.started, time.Now())
	b := f.behaves
	f.mu.Unlock()
	if b.stubborn {
		ctx = context.WithoutCancel(ctx)
	}
	var ready <-chan time.Time // never, if it hangs
	if !b.hangs {
		ready = time.After(b.takes)
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.panics {
		panic("boom")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set, b.err
}

// newFake returns a source whose fetches are faked, and a header that finds its one key.
func newFake(t *testing.T) (*fakeFetch, *keySource, header) {
	t.Helper()
	fake := &fakeFetch{}
	fake.serve(t, "known")
	config := Issuer{RefreshInterval: 5 * time.Minute, MaxAge: time.Hour}
	return fake, newKeySource(config, fake.fetch, Options{}.withDefaults()), header{kid: "known", hasKid: true}
}

// pass lets time pass in a synctest bubble; it takes none outside.
func pass(d time.Duration) { <-time.After(d) }

func eddsa() algorithm { return algorithm{method: jwt.SigningMethodEdDSA} }

func TestFirstLoadIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, head := newFake(t)
		fake.behave(fakeBehaviour{takes: 2 * time.Second})
		first, cancel := context.WithCancel(t.Context())
		verdicts := make(chan error, 10)
		for n := range 10 {
			ctx := t.Context()
			if n == 0 {
				ctx = first
			}
			go func() { _, _, err := source.keyFor(ctx, head, eddsa()); verdicts <- err }()
			synctest.Wait() // the first one starts the fetch, the others join it
		}
		cancel()
		if err := <-verdicts; !errors.Is(err, ErrIssuerUnavailable) {
			t.Errorf("cancelled first caller: %v", err)
		}
		for range 9 {
			if err := <-verdicts; err != nil {
				t.Errorf("other caller: %v", err)
			}
		}
		if len(fake.started) != 1 {
			t.Errorf("%d fetches", len(fake.started))
		}
	})
}

// TestFetchHasItsOwnDeadline hangs the endpoint: a caller without a deadline is freed after 5 s.
func TestFetchHasItsOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, head := newFake(t)
		fake.behave(fakeBehaviour{hangs: true})
		began := time.Now()
		if _, _, err := source.keyFor(t.Context(), head, eddsa()); !errors.Is(err, ErrIssuerUnavailable) {
			t.Error(err)
		}
		if took := time.Since(began); took != fetchTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// TestUnknownKidWaitsAlone hangs the endpoint after a first load: tokens with known keys are not delayed, and
// a made-up kid is refused before its caller's time is up, so that it is no outage.
func TestUnknownKidWaitsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, head := newFake(t)
		if _, _, err := source.keyFor(t.Context(), head, eddsa()); err != nil {
			t.Fatal(err)
		}
		fake.behave(fakeBehaviour{hangs: true})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		verdict := make(chan error)
		go func() {
			_, _, err := source.keyFor(ctx, header{kid: "made-up", hasKid: true}, eddsa())
			verdict <- err
		}()
		synctest.Wait() // now it waits
		if _, _, err := source.keyFor(t.Context(), head, eddsa()); err != nil || time.Since(began) != 0 {
			t.Errorf("known kid: %v after %v", err, time.Since(began))
		}
		if err := <-verdict; !errors.Is(err, ErrInvalid) {
			t.Errorf("made-up kid: %v", err)
		}
		if took := time.Since(began); took != 150*time.Millisecond || ctx.Err() != nil {
			t.Errorf("made-up kid took %v of 200ms", took)
		}
		pass(fetchTimeout) // the fetch has to end before the test does
	})
}

// TestUnknownKidOutlivesItsCaller cancels the caller whose unknown kid started the fetch; another shares it.
func TestUnknownKidOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, head := newFake(t)
		if _, _, err := source.keyFor(t.Context(), head, eddsa()); err != nil {
			t.Fatal(err)
		}
		fake.behave(fakeBehaviour{takes: time.Second})
		first, cancel := context.WithCancel(t.Context())
		newKid := header{kid: "new", hasKid: true}
		left, got := make(chan error), make(chan error)
		go func() { _, _, err := source.keyFor(first, newKid, eddsa()); left <- err }()
		synctest.Wait()
		fake.serve(t, "new")
		go func() { _, _, err := source.keyFor(t.Context(), newKid, eddsa()); got <- err }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, ErrInvalid) {
			t.Errorf("cancelled caller: %v", err)
		}
		if err := <-got; err != nil {
			t.Errorf("other caller: %v", err)
		}
	})
}

func TestFetchPanicIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, head := newFake(t)
		fake.behave(fakeBehaviour{panics: true})
		if _, _, err := source.keyFor(t.Context(), head, eddsa()); !errors.Is(err, ErrIssuerUnavailable) {
			t.Error(err)
		}
		if status := source.status(); status.LastError == nil || status.Ready {
			t.Errorf("status %+v", status)
		}
	})
}

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for _, failures := range []int{1, 2, 3, 4, 5, 6, 7, 100} {
		got = append(got, backoff(failures)/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 30}; !slices.Equal(got, want) {
		t.Errorf("got %v seconds, want %v", got, want)
	}
}

// TestRunSchedule checks when fetches start: failing ones back off, then one follows each interval.
func TestRunSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, _ := newFake(t)
		fake.behave(fakeBehaviour{err: errors.New("down")})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		began := time.Now()
		go func() { defer close(ended); source.run(ctx) }()
		pass(8 * time.Second) // attempts at 0, 1, 3 and 7 s, or up to a tenth sooner
		synctest.Wait()
		fake.behave(fakeBehaviour{})
		pass(17 * time.Minute) // at 15 s, and then every 5 min
		cancel()
		<-ended
		wantSchedule(t, began, fake.started, []time.Duration{
			0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second,
			15*time.Second + 5*time.Minute, 15*time.Second + 10*time.Minute, 15*time.Second + 15*time.Minute,
		})
	})
}

func wantSchedule(t *testing.T, began time.Time, started []time.Time, want []time.Duration) {
	t.Helper()
	if len(started) != len(want) {
		t.Fatalf("%d fetches, want %d", len(started), len(want))
	}
	for n, at := range started {
		if got := at.Sub(began); got < want[n]*9/10 || got > want[n] {
			t.Errorf("fetch %d after %v, want %v or up to a tenth sooner", n, got, want[n])
		}
	}
}

// TestRunEnds cancels while a fetch hangs: run must take it along.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, _ := newFake(t)
		fake.behave(fakeBehaviour{hangs: true})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		began := time.Now()
		go func() { defer close(ended); source.run(ctx) }()
		synctest.Wait()
		cancel()
		<-ended
		if took := time.Since(began); took != 0 || len(fake.started) != 1 {
			t.Errorf("ended after %v and %d fetches", took, len(fake.started))
		}
	})
}

// TestRunWaitsForItsFetch cancels while a fetch is busy with something that no context ends.
func TestRunWaitsForItsFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, source, _ := newFake(t)
		fake.behave(fakeBehaviour{takes: time.Second, stubborn: true})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		began := time.Now()
		go func() { defer close(ended); source.run(ctx) }()
		synctest.Wait()
		cancel()
		<-ended
		if took := time.Since(began); took != time.Second {
			t.Errorf("ended after %v, its fetch after 1s", took)
		}
	})
}

// TestJitter checks the bounds, and that there is jitter at all.
func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jittered(time.Minute)
		if d < 54*time.Second || d > time.Minute {
			t.Fatalf("%v is not the last tenth of a minute", d)
		}
		seen[d] = true
	}
	if len(seen) < 2 {
		t.Error("no jitter")
	}
}
