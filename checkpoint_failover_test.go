package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	failoverUUID  = "3e11fa47-71ca-11e1-9e33-c80aa9429562:"
	failoverUUID2 = "4e11fa47-71ca-11e1-9e33-c80aa9429562:"
)

// After a failover the verifier's place may be of another server's log than the position: not
// the numbers of their files tell which comes first.
func TestResumeBeginsAtWhatTheVerifierLacks(t *testing.T) {
	place := func(file, set string) BinlogCoordinate {
		c := BinlogCoordinate{File: file, GTIDSet: set}
		if file != "" {
			c.Pos = 1000
		}
		return c
	}
	for name, c := range map[string]struct{ position, verified, want BinlogCoordinate }{
		"behind, in a later file": {
			place("binlog.000003", failoverUUID+"1-130"), place("binlog.000009", failoverUUID+"1-100"), place("binlog.000009", failoverUUID+"1-100"),
		},
		"behind, without a file": {
			place("binlog.000003", failoverUUID+"1-130"), place("", failoverUUID+"1-100"), place("", failoverUUID+"1-100"),
		},
		"ahead, in an earlier file": {
			place("binlog.000009", failoverUUID+"1-100"), place("binlog.000003", failoverUUID+"1-130"), place("binlog.000009", failoverUUID+"1-100"),
		},
		"transactions of the new source": {
			place("binlog.000003", failoverUUID+"1-100,"+failoverUUID2+"1-5"), place("", failoverUUID+"1-100"), place("", failoverUUID+"1-100"),
		},
		"in another order on the replica": {
			place("binlog.000003", failoverUUID+"1-94:96-130"), place("binlog.000009", failoverUUID+"1-100"), place("", failoverUUID+"1-94:96-100"),
		},
		"files only": {
			place("binlog.000009", ""), place("binlog.000003", ""), place("binlog.000003", ""),
		},
		"MariaDB": {
			place("binlog.000009", "0-1-130"), place("binlog.000003", "0-1-100"), place("binlog.000003", "0-1-100"),
		},
		"nothing saved": {
			place("binlog.000009", failoverUUID+"1-100"), BinlogCoordinate{}, place("binlog.000009", failoverUUID+"1-100"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &resumePoint{position: c.position, verification: &VerificationState{VerifierType: VerifierTypeInline, Position: c.verified}}
			require.Equal(t, c.want, p.startsAt(VerifierTypeInline))
			require.Equal(t, c.want != c.position, p.startsEarlier(VerifierTypeInline))
			require.Equal(t, c.position, p.startsAt(VerifierTypeIterative), "another verifier begins anew")
		})
	}
}

// What a run keeps of another server's log: the transactions of all its places.
func TestPlacesOfAnotherServer(t *testing.T) {
	mark := logMark{file: "binlog.000009", start: 4, end: 1000}
	p := &resumePoint{
		position: BinlogCoordinate{"binlog.000009", 1000, failoverUUID + "1-100"}, mark: mark,
		furthest: []executedUpTo{
			{BinlogCoordinate{"binlog.000009", 1000, failoverUUID + "1-100"}, mark},
			{BinlogCoordinate{"binlog.000010", 10, failoverUUID + "1-110"}, mark},
			{BinlogCoordinate{"", 0, failoverUUID + "1-50," + failoverUUID2 + "7"}, logMark{}},
		},
		verification: &VerificationState{Position: BinlogCoordinate{"binlog.000008", 1, failoverUUID + "1-90"}},
	}
	saved := p.verification
	p.keepBare()
	require.Equal(t, &resumePoint{
		position:     BinlogCoordinate{GTIDSet: failoverUUID + "1-100"},
		furthest:     []executedUpTo{{BinlogCoordinate: BinlogCoordinate{GTIDSet: failoverUUID + "1-110," + failoverUUID2 + "7"}}},
		verification: &VerificationState{Position: BinlogCoordinate{GTIDSet: failoverUUID + "1-90"}},
	}, p)
	require.Equal(t, "binlog.000008", saved.Position.File, "the verifier's own is not changed")
}
