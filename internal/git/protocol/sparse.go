package protocol

import (
	"context"
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// ResolveFilter finds the lists of paths that a filter's sparse:oid names: an object's ID, or a revision and a path as in
// main:.sparse. They must be what whoever reads may see. Other filters need nothing.
func (v View) ResolveFilter(ctx context.Context, f *revwalk.Filter) error {
	v = v.forUpload()
	return f.Resolve(func(name string) (git.OID, []byte, error) {
		o, err := v.namedBlob(name)
		if err == nil {
			var seen []bool
			if seen, err = v.visible(ctx, []git.OID{o}, false); err == nil && !seen[0] {
				err = errkind.NotFound
			}
		}
		if err == nil {
			var obj git.Object
			obj, err = v.Objects.Read(o)
			switch {
			case err != nil:
			case obj.Kind != git.Blob:
				return o, nil, refuse(errkind.Invalid, "upload-pack: unable to parse sparse filter data in %s", o)
			default:
				return o, obj.Data, nil
			}
		}
		if errkind.Of(err) == errkind.Internal {
			return o, nil, err
		}
		return o, nil, refuse(errkind.NotFound, "upload-pack: unable to access sparse blob in '%s'", clip(name, 120))
	})
}

// namedBlob finds what REV or REV:PATH names.
func (v View) namedBlob(name string) (git.OID, error) {
	g, err := v.Graph()
	if err != nil {
		return git.OID{}, err
	}
	rev, path, inTree := strings.Cut(name, ":")
	if !inTree {
		return g.Resolve(v.Refs, rev)
	}
	o, err := g.Resolve(v.Refs, rev+"^{tree}")
	for part := range strings.SplitSeq(path, "/") {
		if err != nil {
			return o, err
		}
		o, err = v.entry(o, part)
	}
	return o, err
}

// entry finds one entry of a tree.
func (v View) entry(tree git.OID, name string) (git.OID, error) {
	obj, err := v.Objects.Read(tree)
	if err != nil {
		return git.OID{}, err
	}
	if obj.Kind == git.Tree {
		for e, err := range git.TreeEntries(obj.Data) {
			if err != nil {
				return git.OID{}, err
			}
			if string(e.Name) == name {
				return e.OID, nil
			}
		}
	}
	return git.OID{}, fmt.Errorf("%s: %w", name, errkind.NotFound)
}
