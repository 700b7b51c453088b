package git

import "iter"

// Links yields the objects that an object names, as often as it does: a commit's tree and parents, a tree's entries, a
// tag's target. A gitlink names nothing: its commit is another repository's. It ends with the first error.
func Links(kind Kind, data []byte) iter.Seq2[OID, error] {
	return func(yield func(OID, error) bool) {
		switch kind {
		case Commit:
			tree, parents, _, err := CommitLinks(data, nil)
			if err != nil {
				yield(OID{}, err)
				return
			}
			if !yield(tree, nil) {
				return
			}
			for _, p := range parents {
				if !yield(p, nil) {
					return
				}
			}
		case Tree:
			for e, err := range TreeEntries(data) {
				if err == nil && e.Mode == ModeGitlink {
					continue
				}
				if !yield(e.OID, err) || err != nil {
					return
				}
			}
		case Tag:
			target, _, err := TagLink(data)
			yield(target, err)
		case Blob:
		}
	}
}
