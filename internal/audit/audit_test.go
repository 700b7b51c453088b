package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
)

func chain(n int, seed uint64) (list []audit.Entry, head audit.Head) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	text := func() string {
		return []string{"", "alice", "repo/acme/api@refs/heads/main", "héllo \"x\"\n", strings.Repeat("long ", 600), "bad \xff\x00 bytes"}[rnd.IntN(6)]
	}
	for i := range n {
		e := audit.Entry{
			At: time.Unix(1_700_000_000+int64(i), rnd.Int64N(1e9)), Principal: text(), Name: text(), Class: "human", Token: text(), Action: "ref.push",
			Tenant: text(), Resource: text(), Outcome: audit.Done, Intent: text(), Request: text(), Address: "192.0.2.1", Detail: text(),
		}
		head = e.Link(head)
		list = append(list, e)
	}
	return list, head
}

func all(list []audit.Entry) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestChainIsWhole(t *testing.T) {
	t.Parallel()
	list, head := chain(50, 1)
	if got, err := audit.Verify(all(list), head); err != nil || got != head {
		t.Errorf("Verify = %+v, %v, want %+v", got, err, head)
	}
	if got, err := audit.Verify(all(nil), audit.Head{}); err != nil || got != (audit.Head{}) {
		t.Errorf("Verify of nothing = %+v, %v", got, err)
	}
}

// corrupt changes a chain in one of the ways in which somebody with the database open could.
func corrupt(rnd *rand.Rand, list []audit.Entry, head audit.Head) ([]audit.Entry, audit.Head, string) {
	list = slices.Clone(list)
	i := rnd.IntN(len(list))
	e := &list[i]
	texts := []*string{&e.Principal, &e.Name, &e.Class, &e.Token, &e.Action, &e.Tenant, &e.Resource, (*string)(&e.Outcome), &e.Intent, &e.Request, &e.Address, &e.Detail}
	switch rnd.IntN(10) {
	case 0:
		s := texts[rnd.IntN(len(texts))]
		*s += "x"
		return list, head, "a longer text"
	case 1:
		a, b := rnd.IntN(len(texts)), rnd.IntN(len(texts))
		if *texts[a] == *texts[b] {
			*texts[a] += "y"
		}
		*texts[a], *texts[b] = *texts[b], *texts[a]
		return list, head, "two texts changed over"
	case 2:
		e.At = e.At.Add(time.Duration(1+rnd.IntN(1e6)) * time.Microsecond)
		return list, head, "another time"
	case 3:
		e.Hash[rnd.IntN(32)] ^= 1 << rnd.IntN(8)
		return list, head, "another hash"
	case 4:
		e.Prev[rnd.IntN(32)] ^= 1 << rnd.IntN(8)
		return list, head, "another predecessor"
	case 5:
		return slices.Delete(list, i, i+1), head, "an entry less"
	case 6:
		return list[:i], head, "a shorter log"
	case 7:
		return slices.Insert(list, i, list[rnd.IntN(len(list))]), head, "an entry twice"
	case 8:
		if i == 0 {
			i = 1
		}
		list[i], list[i-1] = list[i-1], list[i]
		return list, head, "another order"
	default: // made anew from there on, as somebody would who knows how, but without the head
		prev := audit.Head{}
		if i > 0 {
			prev = audit.Head{Seq: list[i-1].Seq, Hash: list[i-1].Hash}
		}
		list[i].Principal = "somebody else"
		for k := i; k < len(list); k++ {
			prev = list[k].Link(prev)
		}
		return list, head, "a new end"
	}
}

func TestVerifyFindsEachCorruption(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(2, 3))
	for n := range 3000 {
		list, head := chain(1+rnd.IntN(20)+1, uint64(n))
		bad, head, how := corrupt(rnd, list, head)
		if _, err := audit.Verify(all(bad), head); !errors.Is(err, errkind.Invalid) {
			t.Fatalf("%d: %s: Verify = %v, want errkind.Invalid", n, how, err)
		}
	}
}

func export(t *testing.T, list []audit.Entry, head audit.Head) []byte {
	t.Helper()
	var b bytes.Buffer
	if n, err := audit.Export(&b, all(list), head); err != nil || n != len(list) {
		t.Fatalf("Export = %d, %v", n, err)
	}
	return b.Bytes()
}

func TestExportCanBeVerified(t *testing.T) {
	t.Parallel()
	list, head := chain(40, 4)
	want := audit.Checked{Entries: 40, Head: head, Whole: true}
	if got, err := audit.VerifyExport(bytes.NewReader(export(t, list, head)), nil); got != want || err != nil {
		t.Errorf("VerifyExport = %+v, %v, want %+v", got, err, want)
	}
	// A filtered one is not whole, and right all the same.
	some := slices.DeleteFunc(slices.Clone(list), func(e audit.Entry) bool { return e.Seq%3 == 0 })
	var seen []audit.Entry
	got, err := audit.VerifyExport(bytes.NewReader(export(t, some, head)), func(e audit.Entry) { seen = append(seen, e) })
	if want := (audit.Checked{Entries: len(some), Head: head}); got != want || err != nil || len(seen) != len(some) {
		t.Errorf("VerifyExport of some = %+v, %v, and saw %d, want %+v", got, err, len(seen), want)
	}
}

// Any byte of an export that is changed such that it says something else is found, and so is any line that is missing.
func TestVerifyExportFindsEachChange(t *testing.T) {
	t.Parallel()
	list, head := chain(6, 5)
	text := export(t, list, head)
	lines := bytes.SplitAfter(text, []byte("\n"))
	for i := range lines[:len(lines)-1] {
		less := bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil)
		if got, err := audit.VerifyExport(bytes.NewReader(less), nil); err == nil && got.Whole {
			t.Errorf("line %d is missing, and that is not found", i+1)
		}
	}
	rnd := rand.New(rand.NewPCG(6, 7))
	for range 3000 {
		at := rnd.IntN(len(text))
		bad := slices.Clone(text)
		bad[at] ^= 1 << rnd.IntN(7)
		got, err := audit.VerifyExport(bytes.NewReader(bad), nil)
		if err == nil && got.Whole && got.Head == head && !sameMeaning(text[at], bad[at]) {
			t.Fatalf("byte %d: %q for %q is not found", at, bad[at], text[at])
		}
	}
}

// sameMeaning: hexadecimal digits and the names of fields are read in either case, and blanks do not count.
func sameMeaning(a, b byte) bool {
	return bytes.EqualFold([]byte{a}, []byte{b}) || strings.ContainsRune(" \n\r\t", rune(a)) && strings.ContainsRune(" \n\r\t", rune(b))
}

func FuzzVerifyExport(f *testing.F) {
	list, head := chain(3, 6)
	var b bytes.Buffer
	if _, err := audit.Export(&b, all(list), head); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"head":{"seq":0,"hash":"` + strings.Repeat("0", 64) + `"},"entries":0}`))
	f.Add([]byte(fmt.Sprintf(`{"seq":1,"detail":%q}`, strings.Repeat("x", 300<<10))))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := audit.VerifyExport(bytes.NewReader(data), nil)
		if k := errkind.Of(err); err != nil && k != errkind.Invalid && k != errkind.TooLarge {
			t.Fatalf("%v is of kind %v", err, k)
		}
	})
}
