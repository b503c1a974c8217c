package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Options are what a [Verifier] takes from its surroundings. The zero value is usable.
type Options struct {
	// Now is the clock that tokens and keys are judged by, called from many goroutines. nil means [time.Now].
	Now func() time.Time
	// Logger receives one line for each fetch of keys that failed or had entries to skip. nil means none.
	Logger *slog.Logger
	// Around, if not nil, checks a signature by calling check, or returns an error of its own in place of it: to check one
	// costs more than all the rest of a request, and anybody can send one. Verify returns that error as it is.
	Around func(ctx context.Context, check func() error) error
	// Fetched, if not nil, is called after each fetch of an issuer's keys, from one goroutine at a
	// time for an issuer: a nil error means that the keys were replaced. It is the hook for metrics.
	Fetched func(issuer IssuerURL, took time.Duration, err error)
}

// Verifier verifies tokens of a fixed set of issuers. It is safe for concurrent use.
type Verifier struct {
	issuers map[IssuerURL]*issuer
	order   []*issuer
	now     func() time.Time
}

// issuer is a validated [Issuer] with its keys.
type issuer struct {
	Issuer
	algorithms allowedAlgorithms
	keys       *keySource
	around     func(ctx context.Context, check func() error) error
}

// IssuerStatus says how one issuer's keys are.
type IssuerStatus struct {
	Issuer IssuerURL
	// Ready says that there are keys and that they are not older than MaxAge: tokens can be judged.
	Ready bool
	// Keys is the number of usable keys, Skipped that of entries in the key set that are not usable.
	Keys, Skipped int
	// FetchedAt is when the keys were last fetched, by the verifier's clock; zero means never.
	FetchedAt time.Time
	// Age is the time since FetchedAt; zero if the keys were never fetched.
	Age time.Duration
	// LastError is why the last fetch failed; nil if it did not fail or there was none.
	LastError error
}

// NewVerifier returns a verifier for the issuers. It fails on an issuer that is listed twice or not
// valid, naming each mistake; it fetches nothing. See [Verifier.Run].
func NewVerifier(issuers []Issuer, opts Options) (*Verifier, error) {
	opts = opts.withDefaults()
	v := &Verifier{
		issuers: make(map[IssuerURL]*issuer, len(issuers)),
		now:     opts.Now,
	}
	if len(issuers) == 0 {
		return nil, errors.New("token: at least one issuer is required")
	}
	var mistakes []error
	for n, config := range issuers {
		if err := v.add(config, opts); err != nil {
			mistakes = append(mistakes, fmt.Errorf("issuers[%d] %q: %w", n, config.URL, err))
		}
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return v, nil
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Around == nil {
		o.Around = func(_ context.Context, check func() error) error { return check() }
	}
	if o.Fetched == nil {
		o.Fetched = func(IssuerURL, time.Duration, error) {}
	}
	return o
}

func (v *Verifier) add(config Issuer, opts Options) error {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return err
	}
	if v.issuers[config.URL] != nil {
		return errors.New("issuer: listed twice")
	}
	fetcher, err := newFetcher(config)
	if err != nil {
		return err
	}
	i := &issuer{
		Issuer:     config,
		algorithms: allowed(config.Algorithms),
		keys:       newKeySource(config, fetcher.fetch, opts),
		around:     opts.Around,
	}
	v.issuers[config.URL] = i
	v.order = append(v.order, i)
	return nil
}

// Adopt takes over the keys that old has, at their age, of the issuers whose keys come from the same place
// and are judged alike: a new configuration must not begin with an outage. Call it before Run.
func (v *Verifier) Adopt(old *Verifier) {
	for url, i := range v.issuers {
		if before, known := old.issuers[url]; known && i.sameKeys(before.Issuer) {
			i.keys.current.Store(before.keys.current.Load())
		}
	}
}

// sameKeys reports whether a fetch for other would have brought the same keys.
func (i *issuer) sameKeys(other Issuer) bool {
	return i.JWKSURL == other.JWKSURL && i.CAFile == other.CAFile && i.RootCAs == other.RootCAs && slices.Equal(i.Algorithms, other.Algorithms)
}

// Run fetches each issuer's keys at once, with backoff until they are there, and then keeps them fresh
// every RefreshInterval. It returns when ctx ends and its fetches have stopped. Without it the keys
// are fetched by the tokens that need them.
func (v *Verifier) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, i := range v.order {
		group.Go(func() { i.keys.run(ctx) })
	}
	group.Wait()
}

// Status says how the keys of each issuer are, in the order of configuration.
func (v *Verifier) Status() []IssuerStatus {
	list := make([]IssuerStatus, 0, len(v.order))
	for _, i := range v.order {
		list = append(list, i.keys.status())
	}
	return list
}

// Ready returns nil if the keys of every issuer are there, else an error that names those that lack
// them and wraps [ErrIssuerUnavailable].
func (v *Verifier) Ready() error {
	var missing []error
	for _, s := range v.Status() {
		if !s.Ready {
			missing = append(missing, fmt.Errorf("%w: %s", ErrIssuerUnavailable, s.Issuer))
		}
	}
	return errors.Join(missing...)
}

// Verify returns the claims of a token that a configured issuer has signed for one of its audiences and
// that is valid now. raw is the token alone, without "Bearer ". On any doubt it returns zero Claims
// and an error that wraps exactly one of the Err… sentinels; its text is for the log, not for clients,
// and repeats nothing of the token but names and the kid.
//
// It may wait for keys that have to be fetched first, at most until ctx ends; nothing is fetched
// because of what a token says, only for which configured issuer it says it.
func (v *Verifier) Verify(ctx context.Context, raw string) (Claims, error) {
	parsed, err := parseCompact(raw)
	if err != nil {
		return Claims{}, err
	}
	claims, err := decodeSegment("claims", parsed.payload)
	if err != nil {
		return Claims{}, err
	}
	i, err := v.issuerOf(claims)
	if err != nil {
		return Claims{}, err
	}
	keys, err := i.verifySignature(ctx, parsed)
	if err != nil {
		return Claims{}, err
	}
	verified, err := i.checkClaims(claims, v.now())
	if err != nil {
		return Claims{}, err
	}
	verified.proof.keys = keys
	return verified, nil
}

// issuerOf chooses the issuer. It is the only claim that is read before the signature holds.
func (v *Verifier) issuerOf(claims map[string]any) (*issuer, error) {
	name, ok := claims["iss"].(string)
	if !ok {
		return nil, refuse(ErrIssuerUnknown, "iss is missing or not a string")
	}
	i, ok := v.issuers[IssuerURL(name)]
	if !ok {
		return nil, refuse(ErrIssuerUnknown, "iss is not a configured issuer")
	}
	return i, nil
}
