package store_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// BenchmarkRegister registers clients that are new, from 16 goroutines: without a bound on a team's keys, and with the
// bound of the defaults in teams that are far from it; in a server whose commits do not wait for the disk, and in one whose commits do.
func BenchmarkRegister(b *testing.B) {
	for _, fsync := range []string{"off", "on"} {
		server := pgtest.Start(b, "fsync="+fsync, "synchronous_commit="+fsync, "full_page_writes="+fsync)
		template := server.NewTemplate(b, func(url string) error {
			_, _, err := store.Migrate(b.Context(), store.Options{URL: url})
			return err
		})
		for _, bound := range []int{0, 1000} {
			b.Run(fmt.Sprintf("fsync=%s/bound=%d", fsync, bound), func(b *testing.B) { benchRegister(b, template.NewDatabase(b), bound) })
		}
	}
}

func benchRegister(b *testing.B, url string, bound int) {
	s, err := store.Open(b.Context(), store.Options{URL: url, Timeout: patience, MaxConnections: 10})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	var declared resource.Set
	for n := range registerTeams {
		declared.Teams = append(declared.Teams, resource.Team{Team: teams.Team{ID: teams.TeamID(fmt.Sprint("team-", n))}})
	}
	if err := s.Apply(b.Context(), &declared); err != nil {
		b.Fatal(err)
	}
	var last atomic.Int64
	b.SetParallelism(max(1, 16/runtime.GOMAXPROCS(0)))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := last.Add(1)
			if _, _, err := s.Register(b.Context(), benchSubject(n), benchKey(n), bound); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "registrations/s")
}

const registerTeams = 100

func benchSubject(n int64) mapping.Subject {
	return mapping.Subject{Issuer: "https://idp.example.com/realms/acme", Claim: "sub", Value: fmt.Sprintf("9c1f0e52-0000-4000-8000-%012d", n)}
}

func benchKey(n int64) *keys.Key {
	id := keys.Generate().ID()
	return &keys.Key{
		ID: id, Alias: "auto-" + string(id[:12]), TeamID: teams.TeamID(fmt.Sprint("team-", n%registerTeams)), UserID: teams.UserID(fmt.Sprint("user-", n)),
		Models: []string{"gpt-4o*"}, AutoRegistered: true, JWTOnly: true,
	}
}
