package e2e

import (
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-dev/skep/internal/certs/certstest"
)

type authoritiesKey struct{}

// certsCommand: certs authority NAME makes one, with NAME.pem. certs issue AUTHORITY FILE [server] [cn=NAME] [dns=NAME] [uri=URI] makes
// FILE.pem and FILE.key: a client's certificate, or a server's at 127.0.0.1.
func certsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: certs authority NAME | issue AUTHORITY FILE [server] [cn=NAME] [dns=NAME] [uri=URI]")
	}
	known := ts.Value(authoritiesKey{}).(map[string]*certstest.Authority)
	keep := func(file string, b []byte) { ts.Check(os.WriteFile(ts.MkAbs(file), b, 0o600)) }
	if args[0] == "authority" {
		a, err := certstest.NewAuthority(args[1])
		ts.Check(err)
		known[args[1]] = a
		keep(args[1]+".pem", a.PEM)
		return
	}
	a := known[args[1]]
	if args[0] != "issue" || a == nil || len(args) < 3 {
		ts.Fatalf("certs %s %s: not understood", args[0], args[1])
	}
	var leaf certstest.Leaf
	for _, arg := range args[3:] {
		kind, value, _ := strings.Cut(arg, "=")
		switch kind {
		case "server":
			leaf.Server = true
		case "cn":
			leaf.Name = value
		case "dns":
			leaf.DNS = append(leaf.DNS, value)
		case "uri":
			leaf.URI = value
		default:
			ts.Fatalf("certs issue: %s is not understood", arg)
		}
	}
	c, err := a.Issue(leaf)
	ts.Check(err)
	cert, key, err := certstest.Encode(c)
	ts.Check(err)
	keep(args[2]+".pem", cert)
	keep(args[2]+".key", key)
}
