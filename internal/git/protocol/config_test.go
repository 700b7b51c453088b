package protocol_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

func TestParseConfig(t *testing.T) {
	tests := []struct {
		lines []string
		want  error
	}{
		{nil, nil},
		{[]string{"uploadpack.allowFilter=false", "UPLOADPACK.ALLOWFILTER=TRUE", "uploadpack.allowFilter=", "uploadpack.allowFilter=2"}, nil},
		{[]string{"uploadpackfilter.sparse:oid.allow=no", "uploadpackfilter.tree.maxDepth=3"}, nil},
		{[]string{"transfer.hideRefs=refs/a=b", "transfer.hideRefs=!refs/a", "receive.hideRefs=^refs/c/"}, nil},
		{[]string{"lsrefs.unborn=allow", "lsrefs.unborn=ignore"}, nil},
		{[]string{"lsrefs.unborn=true"}, errkind.Invalid},
		{[]string{"uploadpack.keepAlive=0", "receive.keepAlive=30"}, nil},
		{[]string{"uploadpack.allowFilter"}, errkind.Invalid},
		{[]string{"uploadpack.allowFilter=perhaps"}, errkind.Invalid},
		{[]string{"uploadpack.keepAlive=-1"}, errkind.Invalid},
		{[]string{"uploadpack.keepAlive=99999999999"}, errkind.Invalid},
		{[]string{"uploadpackfilter.tree.maxDepth=-1"}, errkind.Invalid},
		{[]string{"uploadpackfilter.nope.allow=true"}, errkind.Unsupported},
		{[]string{"core.bare=true"}, errkind.Unsupported},
		{[]string{"receive.certNonceSeed=secret"}, errkind.Unsupported},
		{[]string{"transfer.hideRefs=a\nb"}, errkind.Invalid},
		{[]string{"transfer.hideRefs=" + strings.Repeat("a", 2000)}, errkind.TooLarge},
		{make([]string, 1000), errkind.TooLarge},
	}
	for _, tt := range tests {
		if _, err := protocol.ParseConfig(tt.lines); !errors.Is(err, tt.want) {
			t.Errorf("ParseConfig(%.100q) = %v, want %v", tt.lines, err, tt.want)
		}
	}
}

// As in git a rule with ^ is compared with the whole name, and one without it with what is left of the name in a namespace.
func TestHideRefsInANamespace(t *testing.T) {
	const name = git.RefName("refs/secret/one")
	tests := []struct {
		namespace string
		rules     []string
		hidden    bool
	}{
		{"", []string{"refs/secret"}, true},
		{"", []string{"^refs/secret"}, true},
		{"", []string{"^refs/secret", "!^refs/secret/one"}, false},
		{"refs/namespaces/a/", []string{"refs/secret"}, true},
		{"refs/namespaces/a/", []string{"^refs/secret"}, false},
		{"refs/namespaces/a/", []string{"^refs/namespaces/a/refs/secret/"}, true},
		{"refs/namespaces/a/", []string{"^refs/namespaces/a/refs/sec"}, false},
		{"refs/namespaces/a/", []string{"^refs/namespaces/a"}, true},
		{"refs/namespaces/a/", []string{"^refs/namespaces/b"}, false},
		{"refs/namespaces/a/", []string{"refs/namespaces/a/refs/secret"}, false},
		{"refs/namespaces/a/", []string{"refs/secret", "!^refs/namespaces/a/refs/secret/one"}, false},
	}
	for _, tt := range tests {
		for _, key := range []string{"transfer", "uploadpack", "receive"} {
			var lines []string
			for _, r := range tt.rules {
				lines = append(lines, key+".hideRefs="+r)
			}
			c, err := protocol.ParseConfig(lines)
			if err != nil {
				t.Fatal(err)
			}
			v := protocol.View{Refs: git.NewRefs("refs/heads/main", []git.Ref{{Name: name}}), Config: c, Namespace: tt.namespace}
			if got := v.HidesFromPush(name); key != "uploadpack" && got != tt.hidden {
				t.Errorf("%q in %q: hidden from pushes: %t, want %t", lines, tt.namespace, got, tt.hidden)
			}
			if got := v.Shown().Len() == 0; key != "receive" && got != tt.hidden {
				t.Errorf("%q in %q: hidden from fetches: %t, want %t", lines, tt.namespace, got, tt.hidden)
			}
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("uploadpack.allowFilter=false\nuploadpackfilter.tree.maxDepth=3\ntransfer.hideRefs=!^refs/a/")
	for _, k := range protocol.Keys() {
		f.Add(k + "=1")
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := protocol.ParseConfig(strings.Split(text, "\n"))
		if (c == nil) == (err == nil) {
			t.Errorf("ParseConfig(%q) = %v, %v", text, c, err)
		}
		if c != nil {
			protocol.View{Config: c}.HidesFromPush("refs/heads/main")
		}
	})
}
