package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-dev/skep/internal/jwt/jwttest"
)

type platformKey struct{}

// platform is an issuer of signed tokens: keys by name, and a server that publishes some of them.
type platform struct {
	mu        sync.Mutex
	keys      map[string]jwttest.Key // guarded by mu
	published []byte                 // guarded by mu
}

// jwtCommand: jwt key NAME ALG makes a key, and NAME.jwks with its public part. jwt sign VARIABLE KEY [CLAIM=VALUE…] makes a token that lives
// for an hour; exp=-5 is one that ended five seconds ago. jwt publish KEY… serves their set at $JWKS_URL.
func jwtCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: jwt key NAME ALG | sign VARIABLE KEY [CLAIM=VALUE...] | publish KEY...")
	}
	p := ts.Value(platformKey{}).(*platform)
	p.mu.Lock()
	defer p.mu.Unlock()
	key := func(name string) jwttest.Key {
		k, ok := p.keys[name]
		if !ok {
			ts.Fatalf("there is no key %s", name)
		}
		return k
	}
	switch {
	case args[0] == "key" && len(args) == 3:
		k, err := jwttest.NewKey(args[2], args[1])
		ts.Check(err)
		p.keys[args[1]] = k
		ts.Check(os.WriteFile(ts.MkAbs(args[1]+".jwks"), jwttest.Set(k), 0o600))
	case args[0] == "sign" && len(args) >= 3:
		text, err := key(args[2]).Sign(claimsOf(args[3:]))
		ts.Check(err)
		ts.Setenv(args[1], text)
	case args[0] == "publish":
		var keys []jwttest.Key
		for _, name := range args[1:] {
			keys = append(keys, key(name))
		}
		if p.published == nil {
			s := httptest.NewServer(p)
			ts.Defer(s.Close)
			ts.Setenv("JWKS_URL", s.URL+"/jwks.json")
		}
		p.published = jwttest.Set(keys...)
	default:
		ts.Fatalf("jwt %s: not understood", args[0])
	}
}

func claimsOf(args []string) jwttest.Claims {
	claims := jwttest.Claims{"exp": time.Now().Add(time.Hour).Unix()}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		claims[name] = value
		if n, err := strconv.Atoi(value); err == nil {
			claims[name] = time.Now().Unix() + int64(n)
		}
	}
	return claims
}

// ServeHTTP answers with the set that is published.
func (p *platform) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = w.Write(p.published)
}
