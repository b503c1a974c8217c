package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// smallDisk returns what starts a server with a file system of its own of 2 MiB in the directory, which nobody else sees
// and which ends with it.
func smallDisk(directory string) (wrapper []string) {
	return []string{"unshare", "--map-root-user", "--mount", "sh", "-c", `mount -t tmpfs -o size=2m extauthz "$0" && exec "$@"`, directory}
}

// join has commands see the server's file system as well, and returns where it is for others.
func (s *site) join(directory string) string {
	pid := fmt.Sprint(s.servers[0].command.Process.Pid)
	s.wrapper = []string{"nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials"}
	return filepath.Join("/proc", pid, "root", directory)
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for block := make([]byte, 512); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full but: %v", err)
	}
}

// SQLite's disk is full: whoever is registered passes, with rows from the disk, and nobody is registered. Once there is room, all is
// well, and what was answered is in the database.
func TestSQLiteDiskFull(t *testing.T) {
	const uncached = "mapping: {claim: client_id, no_match: auto_register, cache_ttl: 1ms, serve_stale: 0s}\ncache: {ttl: 1ms}\n"
	directory := t.TempDir()
	store := database{storeURL: "sqlite:" + filepath.Join(directory, "extauthz.db")}
	s := newSite(t, store, plan{config: uncached, unmigrated: true, noEnvoy: true, wrapper: smallDisk(directory)})
	disk := s.join(directory)
	s.apply(teamA)
	a := s.servers[0].asker()
	token := func(client string) string {
		return s.issuer.Mint(map[string]any{"sub": "alice", "team": "a", "client_id": client})
	}
	var registered []string // that an answer told of
	register := func(client string) verdict {
		v := a.must(token(client))
		if v.status == 200 {
			registered = append(registered, client)
		}
		return v
	}
	for n := range 10 {
		if v := register(fmt.Sprint("before-", n)); v.status != 200 || v.what != "auto_register" {
			t.Fatalf("%s; want 200 auto_register", v)
		}
	}

	fill(t, filepath.Join(disk, "filling"))
	full := 0
	for n := 0; full < 20; n++ { // what the write-ahead log has in reserve is used first
		switch v := register(fmt.Sprint("during-", n)); {
		case v.status == 503 && v.what == "store_unavailable":
			full++
		case v.status != 200 || full > 0 || n > 1000:
			t.Fatalf("newcomer %d: %s; want 503 store_unavailable after %d of them", n, v, full)
		}
	}
	for _, client := range registered {
		if v := a.must(token(client)); v.status != 200 || v.what != "mapping" {
			t.Errorf("%s, on a full disk: %s; want 200 mapping", client, v)
		}
	}

	if err := os.Remove(filepath.Join(disk, "filling")); err != nil {
		t.Fatal(err)
	}
	a.until(time.Now(), token("after"), 200, "auto_register")
	registered = append(registered, "after")
	stored := s.export()
	if len(stored.Mappings) != len(registered) || len(stored.Keys) != len(registered) {
		t.Errorf("%d registrations were answered; there are %d mappings and %d keys", len(registered), len(stored.Mappings), len(stored.Keys))
	}
	t.Logf("%d registrations, %d of them when the disk was full already; 20 refused", len(registered), len(registered)-11)
}
