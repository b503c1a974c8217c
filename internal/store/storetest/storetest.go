// Package storetest is the conformance suite of the stores: what the contract promises, asked of a
// real database.
//
// Every difference between stores is a field of [Features], and its two sides are asserted.
package storetest

import (
	"database/sql"
	"testing"

	"github.com/extauthz/extauthz/internal/store"
)

// Instance is a store over an empty database of its own, with a Timeout of several seconds.
type Instance struct {
	store.Store
	// Raw reaches the same database past the store, as an operator's SQL does, with foreign keys on.
	Raw *sql.DB
	// Forget empties the caches in front of the store; nil if there are none.
	Forget func()
}

// Features are the ways in which stores may differ.
type Features struct {
	// SchemaVersion is the version of the last migration.
	SchemaVersion int64
	// Integers says that truth values and times (in microseconds) are integers.
	Integers bool
	// Suppress is the SQL of a trigger that lets every INSERT into the table do nothing.
	Suppress func(table string) []string
	// Character is the SQL function that makes a character of its number.
	Character string
	// ChecksElements says that the database refuses a list with an element that is null, empty or has
	// control characters. Otherwise the row is stored and cannot be read.
	ChecksElements bool
	// ConcurrentWriters says that a registration without a bound does not wait for another
	// transaction that writes.
	ConcurrentWriters bool
	// Cached says that what was read before is answered from memory, even to a caller whose context has ended.
	Cached bool
	// KeyAlong says that a mapping's key comes with it, and a team's organization. Otherwise they never do.
	KeyAlong bool
	// Unchecked is the SQL that runs a statement without its foreign keys.
	Unchecked func(statement string) string
	// TellsRows says that Watch tells which rows changed, whoever changed them. Otherwise it tells that another
	// connection than the store's own changed something.
	TellsRows bool
}

// Run runs the suite. open returns a new instance for each test and closes it after the test.
func Run(t *testing.T, open func(t *testing.T) Instance, features Features) {
	tests := []struct {
		name string
		test func(*testing.T, Instance, Features)
	}{
		{"Absent", testAbsent},
		{"RoundTrip", testRoundTrip},
		{"IssuerPrecedence", testIssuerPrecedence},
		{"KeyAlong", testKeyAlong},
		{"OrganizationAlong", testOrganizationAlong},
		{"ByteExact", testByteExact},
		{"HostileText", testHostileText},
		{"LongestSubject", testLongestSubject},
		{"Unstorable", testUnstorable},
		{"RegisterInvalid", testRegisterInvalid},
		{"Constraints", testConstraints},
		{"ListElements", testListElements},
		{"MappedKeyStays", testMappedKeyStays},
		{"Register", testRegister},
		{"RegisterOnce", testRegisterOnce},
		{"RegisterOneAlias", testRegisterOneAlias},
		{"RegisterMixed", testRegisterMixed},
		{"RegisterSuppressed", testRegisterSuppressed},
		{"RegisterUnknownTeam", testRegisterUnknownTeam},
		{"RegisterAliasTaken", testRegisterAliasTaken},
		{"Limited", testLimited},
		{"LimitedConcurrently", testLimitedConcurrently},
		{"WritersWait", testWritersWait},
		{"Rebind", testRebind},
		{"RebindRefused", testRebindRefused},
		{"RebindRace", testRebindRace},
		{"RebindSuppressed", testRebindSuppressed},
		{"RebindIdle", testRebindIdle},
		{"Templates", testTemplates},
		{"RegisterTeam", testRegisterTeam},
		{"RegisterTeamTaken", testRegisterTeamTaken},
		{"RegisterTeamAlias", testRegisterTeamAlias},
		{"RegisterTeamInvalid", testRegisterTeamInvalid},
		{"RegisterTeamLimited", testRegisterTeamLimited},
		{"RegisterTeamOnce", testRegisterTeamOnce},
		{"RegisterTeamSuppressed", testRegisterTeamSuppressed},
		{"Touch", testTouch},
		{"TouchTogether", testTouchTogether},
		{"Members", testMembers},
		{"Aliases", testAliases},
		{"Sealed", testSealed},
		{"SealedForOneRow", testSealedForOneRow},
		{"BudgetReset", testBudgetReset},
		{"BudgetResetOnce", testBudgetResetOnce},
		{"WindowConstraints", testWindowConstraints},
		{"ApplyErrors", testApplyErrors},
		{"ApplyAtomic", testApplyAtomic},
		{"ApplyIdempotent", testApplyIdempotent},
		{"ApplyUpdates", testApplyUpdates},
		{"ApplyEachChange", testApplyEachChange},
		{"ApplyKeepSpend", testApplyKeepSpend},
		{"ApplyKeeps", testApplyKeeps},
		{"ApplyWindows", testApplyWindows},
		{"ApplyAliases", testApplyAliases},
		{"ApplyAutoRegistered", testApplyAutoRegistered},
		{"ApplyConcurrently", testApplyConcurrently},
		{"ExportEmpty", testExportEmpty},
		{"EndedContext", testEndedContext},
		{"Ready", testReady},
		{"WatchRows", testWatchRows},
		{"WatchSpend", testWatchSpend},
		{"WatchOwnWrites", testWatchOwnWrites},
		{"WatchConfirms", testWatchConfirms},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.test(t, open(t), features) })
	}
}
