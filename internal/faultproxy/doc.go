// Package faultproxy stands between a program and a MySQL or MariaDB server and breaks
// the connections between them at chosen packets, for tests. It understands enough of the
// protocol to say "the third COMMIT", and does what networks do: connections are reset,
// go silent without an end, answers are lost, and a packet arrives after the one who sent
// it has given up.
//
//	p, err := faultproxy.Start("127.0.0.1:3306")
//	commit := p.On(faultproxy.Rule{Match: faultproxy.Query("^COMMIT"), Skip: 2, Do: faultproxy.LoseAnswer})
//	... the program connects to p.Addr() ...
//	<-commit.Fired()
//
// An encrypted connection passes through untouched from its switch to TLS on: rules see
// nothing of it, Proxy.ResetAll and Proxy.Silence still take effect. So does a compressed
// one.
package faultproxy
