package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/faultproxy"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// More callers come at once than a slow database can be asked about: as many as it can serve in time are answered, the others are
// told so before their time is up, and callers whose rows are cached notice nothing. It does not count as a failure of the database.
func TestDatabaseWithTooMuchToDo(t *testing.T) {
	t.Parallel()
	const (
		strangers    = 600 // 10 connections and a line of 128
		checkTimeout = 2 * time.Second
	)
	proxy, store := proxied(t, postgres(t, pgtest.Start(t)))
	r := newReplicas(t, store, plan{config: reject, resources: manyKeys(1), checkTimeout: checkTimeout.String(), storeTimeout: "1s"})
	cached := r.token("c0")
	r.all(cached, 200, "mapping")
	stranger := make([]string, strangers)
	for n := range stranger {
		stranger[n] = r.token(fmt.Sprint("stranger-", n))
	}
	proxy.Slow(50*time.Millisecond, faultproxy.All) // 100 ms for each look-up, 100 of them in a second
	a, answers := r.askers[0], make([]verdict, strangers)
	var group sync.WaitGroup
	for n := range stranger {
		group.Go(func() { answers[n] = a.must(stranger[n]) })
	}
	for _, v := range a.during(time.Second, cached) {
		if v.status != 200 {
			t.Errorf("a cached caller got %s", v)
		}
	}
	group.Wait()
	counts, slowest := make(map[string]int), time.Duration(0)
	for _, v := range answers {
		counts[fmt.Sprint(v.status, " ", v.what)]++
		slowest = max(slowest, v.took)
	}
	t.Logf("of %d strangers: %v; slowest %s", strangers, counts, slowest.Round(time.Millisecond))
	served, shed := counts["403 no_mapping"], counts["503 overloaded"]
	if served < 10 || shed < strangers-10-128 || served+shed != strangers || slowest > checkTimeout {
		t.Errorf("%d answered and %d told so of %d; slowest %s", served, shed, strangers, slowest)
	}
	if page := r.servers[0].get("/readyz"); page.Status != 200 {
		t.Errorf("it is not ready: %d %s", page.Status, page.Body)
	}
	if refusing := r.servers[0].metric("extauthz_store_refusing"); refusing != 0 {
		t.Error("a database with much to do counts as one that fails")
	}
	proxy.Heal()
	r.seen(time.Now(), stranger[0], 403, "no_mapping")
}
