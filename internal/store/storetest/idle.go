package storetest

import (
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
)

// testTouch moves the end of idle keys: later, and of keys that work.
func testTouch(t *testing.T, s Instance, _ Features) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	at, later := now.Add(time.Hour), now.Add(2*time.Hour)
	key := func(name string, idleAt time.Time, spoil func(*keys.Key)) resource.Key {
		k := keys.Key{ID: id(name), Alias: name, IdleTimeout: time.Hour, IdleExpiresAt: idleAt}
		spoil(&k)
		return resource.Key{Key: k}
	}
	as := func(*keys.Key) {}
	apply(t, s, &resource.Set{Keys: []resource.Key{
		key("later", at, as),
		key("earlier", at, as),
		key("blocked", at, func(k *keys.Key) { k.Blocked = true }),
		key("expired", at, func(k *keys.Key) { k.ExpiresAt = now.Add(-time.Hour) }),
		key("expires later", at, func(k *keys.Key) { k.ExpiresAt = now.Add(time.Hour) }),
		key("idle already", now.Add(-time.Hour), as),
		key("never idle", time.Time{}, func(k *keys.Key) { k.IdleTimeout = 0 }),
		key("bystander", at, as),
	}})
	for _, test := range []struct {
		name        string
		touch, want time.Time
	}{
		{"later", later.Add(time.Nanosecond), later},
		{"earlier", at.Add(-time.Microsecond), at},
		{"blocked", later, at},
		{"expired", later, at},
		{"expires later", later, later},
		{"idle already", later, now.Add(-time.Hour)},
		{"never idle", later, time.Time{}},
	} {
		_, err := s.Key(t.Context(), id(test.name))
		wantError(t, test.name, err, nil)
		wantError(t, test.name, s.Touch(t.Context(), id(test.name), test.touch), nil)
		touched, err := s.Key(t.Context(), id(test.name))
		wantError(t, test.name, err, nil)
		equal(t, test.name, touched.IdleExpiresAt, test.want)
	}
	wantError(t, "a key that does not exist", s.Touch(t.Context(), id("gone"), later), nil)
	bystander, err := s.Key(t.Context(), id("bystander"))
	wantError(t, "bystander", err, nil)
	equal(t, "bystander", bystander.IdleExpiresAt, at)
}

// testTouchTogether touches one key many times at once: the latest of the ends stays.
func testTouchTogether(t *testing.T, s Instance, _ Features) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	apply(t, s, &resource.Set{Keys: []resource.Key{{Key: keys.Key{ID: id("k"), IdleTimeout: time.Hour, IdleExpiresAt: now.Add(time.Hour)}}}})
	for _, err := range together(16, func(i int) error { return s.Touch(t.Context(), id("k"), now.Add(time.Duration(2+i)*time.Hour)) }) {
		wantError(t, "Touch", err, nil)
	}
	key, err := s.Key(t.Context(), id("k"))
	wantError(t, "Key", err, nil)
	equal(t, "end", key.IdleExpiresAt, now.Add(17*time.Hour))
}

// testRebindIdle refuses to replace a key that has expired as idle: it denies, and is not renewed.
func testRebindIdle(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	for name, idleAt := range map[string]time.Time{"idle": time.Now().Add(-time.Hour), "in use": time.Now().Add(time.Hour)} {
		old := registered(name, "team-a")
		old.IdleTimeout, old.IdleExpiresAt = time.Hour, idleAt
		register(t, s, subject(name), old)
	}
	_, err := s.Rebind(t.Context(), subject("idle"), id("idle"), registered("new", "team-b"), 0)
	wantError(t, "an idle key", err, mapping.ErrConflict)
	_, err = s.Rebind(t.Context(), subject("in use"), id("in use"), registered("newer", "team-b"), 0)
	wantError(t, "a key in use", err, nil)
	sizes(t, s, 3, 2)
}
