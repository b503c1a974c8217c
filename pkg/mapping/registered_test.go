package mapping

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// drawnKey draws from few values, so that keys have much in common, and sets every field there is.
var drawnKey = rapid.Custom(func(t *rapid.T) *keys.Key {
	key := &keys.Key{}
	draw(t, reflect.ValueOf(key).Elem())
	return key
})

func draw(t *rapid.T, v reflect.Value) {
	at := time.UnixMicro(rapid.SampledFrom([]int64{-1, 0, 1, 4_000_000_000_000_000}).Draw(t, "at")).UTC()
	few := rapid.IntRange(0, 2).Draw(t, "few")
	switch {
	case v.Type() == reflect.TypeFor[time.Time]() && few > 0:
		v.Set(reflect.ValueOf(at))
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Type() == reflect.TypeFor[teams.Window]():
		window, err := teams.ParseWindow([]string{"", "1d", "3mo"}[few])
		if err != nil {
			t.Fatal(err)
		}
		v.Set(reflect.ValueOf(window))
	case v.Kind() == reflect.String:
		v.SetString([]string{"", "a", "b"}[few])
	case v.Kind() == reflect.Bool:
		v.SetBool(few > 0)
	case v.CanInt():
		v.SetInt(int64(few))
	case v.Kind() == reflect.Uint8:
		v.SetUint(uint64(few))
	case v.Kind() == reflect.Pointer && few > 0:
		v.Set(reflect.New(v.Type().Elem()))
		draw(t, v.Elem())
	case v.Kind() == reflect.Pointer:
	case v.Kind() == reflect.Slice && few > 0:
		length := rapid.SampledFrom([]int{1, 2, maxShared + 1}).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), length, length))
		for n := range length {
			draw(t, v.Index(n))
		}
	case v.Kind() == reflect.Slice:
	case v.Kind() == reflect.Struct:
		for n := range v.NumField() {
			draw(t, v.Field(n))
		}
	default:
		t.Fatalf("no way to draw a %v", v.Type())
	}
}

// What is kept of a key is the key, whatever other keys were kept before and share with it.
func TestARegisteredKeyIsWhatItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newShared()
		list := rapid.SliceOfN(drawnKey, 1, 5).Draw(t, "keys")
		var all []*registered
		for _, key := range list {
			all = append(all, s.registered(s.slim(key, key.ID, key.UserID)))
		}
		for n, key := range list {
			if got := all[n].key(key.ID); !reflect.DeepEqual(got, key) {
				t.Fatalf("key %d: got %+v, want %+v", n, got, key)
			}
		}
	})
}

// Keys that were made alike share their terms, which the first counts; those that were not do not.
func TestRegisteredKeysShareTheirTerms(t *testing.T) {
	s := newShared()
	made := func(id keys.ID, models ...string) *registered {
		return s.registered(&keys.Key{ID: id, Alias: "auto-" + string(id), UserID: teams.UserID(id), TeamID: "a", Models: models, ExpiresAt: time.Now()})
	}
	size := func(id keys.ID, r *registered) int { return s.registeredSize(Subject{}, id, r) }
	first, second, other := made("1", "gpt-4o"), made("2", "gpt-4o"), made("3", "o3")
	if first.terms != second.terms || first.terms == other.terms {
		t.Error("the terms are not shared, or by those that have others")
	}
	if size("1", first) <= size("2", second) || size("3", other) <= size("2", second) {
		t.Errorf("sizes %d, %d, %d: the terms are to be counted once", size("1", first), size("2", second), size("3", other))
	}
	blocked := s.registered(&keys.Key{ID: "4", TeamID: "a", Models: []string{"gpt-4o"}, Blocked: true})
	if !blocked.key("4").Blocked || second.key("2").Blocked {
		t.Error("a blocked key shares the terms of one that is not, or gives them to it")
	}
	long := make([]string, maxShared+1)
	if first, second := made("4", long...), made("5", long...); first.terms == second.terms || size("4", first) != size("5", second) {
		t.Error("terms with a long list are shared")
	}
}
