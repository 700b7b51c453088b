package bare

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/skep-dev/skep/internal/git"
)

// writeServerInfo writes info/refs and objects/info/packs, which clients of dumb HTTP read (git-update-server-info(1)).
func (r *Repo) writeServerInfo(ctx context.Context) error {
	st, err := r.load(ctx, Service{})
	if err != nil {
		return err
	}
	defer st.close()
	var refs, packs strings.Builder
	for _, ref := range st.view.Refs.List() {
		fmt.Fprintf(&refs, "%s\t%s\n", ref.OID, ref.Name)
		if !ref.Peeled.IsZero() {
			fmt.Fprintf(&refs, "%s\t%s^{}\n", ref.Peeled, ref.Name)
		}
	}
	names, err := filepath.Glob(filepath.Join(escapeGlob(r.objectsDir()), "pack", "pack-*.pack"))
	if err != nil {
		return err
	}
	for _, name := range names {
		fmt.Fprintf(&packs, "P %s\n", filepath.Base(name))
	}
	packs.WriteByte('\n')
	if err := replaceFile(filepath.Join(r.common, "info", "refs"), refs.String()); err != nil {
		return err
	}
	return replaceFile(filepath.Join(r.objectsDir(), "info", "packs"), packs.String())
}

func replaceFile(path, text string) error {
	l, err := lock(path, packedLockWait)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(l.f, text); err != nil {
		l.drop()
		return err
	}
	return l.commit()
}

// others are the objects that references of repositories name from which this one borrows objects.
func (r *Repo) others(ctx context.Context, st *state) []git.OID {
	seen := map[git.OID]bool{}
	for _, ref := range st.view.Refs.List() {
		seen[ref.OID] = true
	}
	var list []git.OID
	add := func(o git.OID) {
		if !seen[o] && st.view.Objects.Has(o) {
			seen[o] = true
			list = append(list, o)
		}
	}
	if r.space != "" {
		for _, o := range st.refs.direct {
			add(o)
		}
	}
	for _, dir := range r.objectDirs()[1:] {
		if ctx.Err() != nil {
			return list
		}
		other := &Repo{dir: filepath.Dir(dir), common: filepath.Dir(dir)}
		if filepath.Base(dir) != "objects" || !isRepository(other.dir) {
			continue
		}
		refs, err := other.readRefs()
		if err != nil {
			continue // what cannot be read saves the client nothing
		}
		for _, o := range refs.direct {
			add(o)
		}
	}
	return list
}

func readText(path string) (string, error) {
	b, err := readFile(path, maxSmallFile)
	return strings.TrimSpace(string(b)), err
}
