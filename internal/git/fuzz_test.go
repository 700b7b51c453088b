package git_test

import (
	"bytes"
	"testing"

	"github.com/skep-dev/skep/internal/git"
)

func FuzzRefName(f *testing.F) {
	for _, s := range []string{"refs/heads/main", "refs/tags/v1.0", "HEAD", "refs/heads/a..b", "refs/heads/.a", "refs/heads/a.lock", "refs/heads/@{", "refs/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := git.ParseRefName(s)
		if err != nil {
			return
		}
		if string(n) != s {
			t.Errorf("ParseRefName(%q) = %q: a name is kept as it is or refused", s, n)
		}
		if again, err := git.ParseRefName([]byte(n)); err != nil || again != n {
			t.Errorf("ParseRefName(%q) of its own result = %q, %v", n, again, err)
		}
	})
}

func FuzzCheckTree(f *testing.F) {
	for _, c := range checkCases() {
		if c.kind == git.Tree {
			f.Add(c.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checked := git.Check(git.Tree, data) == nil
		var last git.Entry
		for rest := data; len(rest) > 0; {
			e, n, err := git.NextEntry(rest)
			if err != nil {
				if checked {
					t.Errorf("Check accepts a tree that cannot be read: %v", err)
				}
				return
			}
			if checked && len(last.Name) > 0 && git.CompareEntries(last.Name, last.Mode, e.Name, e.Mode) >= 0 {
				t.Errorf("Check accepts %q after %q", e.Name, last.Name)
			}
			if checked && git.CheckEntry(e.Name, e.Mode) != nil {
				t.Errorf("Check accepts the entry %q, CheckEntry does not", e.Name)
			}
			written := git.AppendEntry(nil, e)
			if !bytes.Equal(bytes.TrimLeft(rest[:n], "0"), bytes.TrimLeft(written, "0")) { // but for a padded mode
				t.Errorf("the entry %q is written back as %q", rest[:n], written)
			}
			last, rest = e, rest[n:]
		}
	})
}

func FuzzCommit(f *testing.F) {
	for _, c := range checkCases() {
		if c.kind == git.Commit {
			f.Add(c.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := git.ParseCommit(data)
		tree, parents, when, errLinks := git.CommitLinks(data, nil)
		if (err == nil) != (errLinks == nil) {
			t.Fatalf("ParseCommit says %v, CommitLinks %v", err, errLinks)
		}
		if err != nil {
			if git.Check(git.Commit, data) == nil {
				t.Errorf("Check accepts a commit that cannot be read: %v", err)
			}
			return
		}
		if tree != c.Tree || len(parents) != len(c.Parents) {
			t.Errorf("CommitLinks = %v %v, ParseCommit has %v %v", tree, parents, c.Tree, c.Parents)
		}
		if s := c.Committer; !s.When.IsZero() && git.Check(git.Commit, data) == nil && when != s.When.Unix() {
			t.Errorf("CommitLinks says %d, ParseCommit %d", when, s.When.Unix())
		}
		// What was read, written and read again is the same.
		once := c.Append(nil)
		if again, err := git.ParseCommit(once); err != nil || !bytes.Equal(again.Append(nil), once) {
			t.Errorf("written as %q, then read and written as %q, %v", once, again.Append(nil), err)
		}
	})
}

func FuzzTag(f *testing.F) {
	for _, c := range checkCases() {
		if c.kind == git.Tag {
			f.Add(c.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tag, err := git.ParseTag(data)
		o, k, errLink := git.TagLink(data)
		if (err == nil) != (errLink == nil) {
			t.Fatalf("ParseTag says %v, TagLink %v", err, errLink)
		}
		if err != nil {
			if git.Check(git.Tag, data) == nil {
				t.Errorf("Check accepts a tag that cannot be read: %v", err)
			}
			return
		}
		if o != tag.Object || k != tag.Kind || !k.Valid() {
			t.Errorf("TagLink = %v %v, ParseTag has %v %v", o, k, tag.Object, tag.Kind)
		}
	})
}

func FuzzSignature(f *testing.F) {
	for _, s := range []string{someone, "a <b> 0 -0000", "<> 1 +9999", "a <b>", "a <b> -1 +0000", "a > < 1 +0000", " a <<b>> 99999999999999999999 +0100", "a <b> 1 --100"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := git.ParseSignature(data)
		if err != nil {
			return
		}
		once := s.Append(nil)
		again, err := git.ParseSignature(once)
		if err != nil || !bytes.Equal(again.Append(nil), once) {
			t.Errorf("%q is written as %q, then read and written as %q, %v", data, once, again.Append(nil), err)
		}
	})
}
