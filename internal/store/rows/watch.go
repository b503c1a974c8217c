package rows

import "time"

// Change is a change that was committed, by whomever.
type Change struct {
	// Table is the table's name; empty means every table.
	Table string
	// Digests name the rows by what they are looked up by, before the change and after it (see package
	// cache's Digest): the id of an organization, team, user or key; the alias of an organization or team;
	// claim and value of a mapping; team and user of a member. None means every row.
	Digests []uint64
	// At is when the statement ran, by this machine's clock; the zero time if nobody can tell.
	At time.Time
}

// Watcher is told of changes. Its methods are called from one goroutine and must not block.
type Watcher interface {
	// Watching says that every change that is committed after the instant will be told, until Interrupted.
	Watching(since time.Time)
	// Changed tells of a change. Changes are told in the order of their commits.
	Changed(c Change)
	// Confirmed says that every change that was committed before the instant, and after Watching, was told.
	Confirmed(until time.Time)
	// Interrupted says that changes go untold from now on, until Watching, and why.
	Interrupted(err error)
}
