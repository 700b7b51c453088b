package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestSwitchWhileCloning renames a repository, or takes it from the public, while a stranger clones it. A fetch that was let in
// ends well; one that comes later is refused. Afterwards strangers get for it what they get for one that never was, the
// finished answer to just this clone included.
func TestSwitchWhileCloning(t *testing.T) {
	const packBytes = 12 << 20 // more than the buffers between server and client hold
	w := newWorld(t)
	w.noise("source.git", packBytes)
	const rename, hide, remove = "repo rename default/NAME NAME-renamed", "repo settings default/NAME --public=false", "repo delete default/NAME"
	tests := []struct {
		name    string
		after   int64 // bytes of the pack; 0: before the server hears of the fetch
		command string
	}{
		{"renamed before the fetch", 0, rename},
		{"renamed in the middle", packBytes / 4, rename},
		{"hidden before the fetch", 0, hide},
		{"hidden in the middle", packBytes / 4, hide},
		{"deleted before the fetch", 0, remove},
		{"deleted in the middle", packBytes / 4, remove},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{server: w.server, t: t, work: w.work}
			repo := fmt.Sprint("demo", i)
			w.git("source.git", "push", "-q", "--mirror", w.remote(repo))
			w.publish(repo)
			g := newGate(t, w.url, tt.after)
			type ended struct {
				out string
				err error
			}
			cloned := make(chan ended, 1)
			go func() {
				out, err := w.try(".", nil, "clone", "-q", "--mirror", g.url+"/default/"+repo+".git", "clone.git")
				cloned <- ended{out, err}
			}()
			select {
			case <-g.reached:
			case c := <-cloned:
				t.Fatalf("the clone ended before its fetch: %v\n%s", c.err, c.out)
			}
			command := strings.ReplaceAll(tt.command, "NAME", repo)
			if out, err := w.skep(strings.Fields(command)...); err != nil {
				t.Fatalf("skep %s: %v\n%s", command, err, out)
			}
			g.open()
			clone := <-cloned
			if tt.after > 0 {
				if clone.err != nil {
					t.Fatalf("the clone that was under way: %v\n%s", clone.err, clone.out)
				}
				w.same("source.git", "clone.git")
			} else if clone.err == nil || !strings.Contains(clone.out, "could not read Username") {
				t.Errorf("a fetch that came too late: %v\n%s", clone.err, clone.out)
			}
			if err := os.RemoveAll(w.path("clone.git")); err != nil {
				t.Fatal(err)
			}

			for _, name := range []string{repo, repo + "-renamed"} {
				public := tt.command == rename && name != repo
				for _, request := range []string{"GET info/refs?service=git-upload-pack", "POST git-upload-pack"} {
					got, none := w.asStranger(name, request, g.fetch), w.asStranger("none", request, g.fetch)
					if public && !strings.HasPrefix(got, "200 ") || !public && got != none {
						t.Errorf("stranger's %s of %s = %.200q, of what never was %.200q", request, name, got, none)
					}
				}
			}
		})
	}
}

// asStranger sends a bare request of git's without a credential, and returns the answer's status and text.
func (w *world) asStranger(repo, request string, body []byte) string {
	w.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+"/default/"+repo+".git/"+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	req.Header.Set("Git-Protocol", "version=2")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Status + " " + string(text)
}
