package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/protocol"
)

func TestPktReaderKnowsEveryPacket(t *testing.T) {
	longest := strings.Repeat("x", 65516)
	in := "0006a\n" + "0000" + "0001" + "0002" + "0004" + "000Ab\x00cd\n\n" + "fff0" + longest
	pr := protocol.NewPktReader(iotest.HalfReader(strings.NewReader(in)), 1<<20)
	defer pr.Close()
	want := []struct {
		kind protocol.Pkt
		text string
	}{
		{protocol.PktData, "a\n"},
		{protocol.PktFlush, ""},
		{protocol.PktDelim, ""},
		{protocol.PktResponseEnd, ""},
		{protocol.PktData, ""},
		{protocol.PktData, "b\x00cd\n\n"},
		{protocol.PktData, longest},
	}
	for i, w := range want {
		k, b, err := pr.Next()
		if err != nil || k != w.kind || string(b) != w.text {
			t.Fatalf("packet %d is %v %.20q, %v; want %v %.20q", i, k, b, err, w.kind, w.text)
		}
	}
	if _, _, err := pr.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v, want io.EOF", err)
	}
}

func TestPktReaderRefuses(t *testing.T) {
	tests := []struct {
		name, in string
		want     error
	}{
		{"no digits", "hello", errkind.Invalid},
		{"length three", "0003", errkind.Invalid},
		{"longer than a pkt-line may be", "fff1" + strings.Repeat("x", 65517), errkind.Invalid},
		{"sign", "-001", errkind.Invalid},
		{"cut in its length", "00", io.ErrUnexpectedEOF},
		{"cut in its payload", "0010abc", io.ErrUnexpectedEOF},
		{"more than allowed", strings.Repeat("0008abc\n", 200), errkind.TooLarge},
		{"more flushes than allowed", strings.Repeat("0000", 300), errkind.TooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pr := protocol.NewPktReader(strings.NewReader(tt.in), 1000)
			defer pr.Close()
			var err error
			for err == nil {
				_, _, err = pr.Next()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Next() = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestPktReaderTellsRemoteErrors(t *testing.T) {
	pr := protocol.NewPktReader(strings.NewReader(pkts("ERR no such\x07 thing")), 1000)
	defer pr.Close()
	_, _, err := pr.Line()
	remote, ok := errors.AsType[*protocol.ErrRemote](err)
	if !ok || remote.Text != "no such  thing" {
		t.Errorf("Line() = %v, want the remote's text without control characters", err)
	}
}

func TestPktWriterRefusesWhatNoPacketHolds(t *testing.T) {
	var b bytes.Buffer
	pw := protocol.NewPktWriter(&b)
	defer pw.Close()
	pw.Line(strings.Repeat("x", 65515))
	if err := pw.Send(); err != nil {
		t.Errorf("a line of 65516 bytes: %v", err)
	}
	pw.Line(strings.Repeat("x", 65516))
	if err := pw.Send(); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("a line of 65517 bytes: %v, want %v", err, errkind.TooLarge)
	}
	if b.Len() != 65520 {
		t.Errorf("%d bytes were written, want only the first line's 65520", b.Len())
	}
}

func TestParseVersion(t *testing.T) {
	tests := []struct {
		in   string
		want protocol.Version
	}{
		{"", protocol.V0},
		{"version=0", protocol.V0},
		{"version=1", protocol.V1},
		{"version=2", protocol.V2},
		{"version=3", protocol.V0},
		{"version=2:version=1", protocol.V2},
		{"foo:version=1:bar=2", protocol.V1},
		{"version=22", protocol.V0},
	}
	for _, tt := range tests {
		if got := protocol.ParseVersion(tt.in); got != tt.want {
			t.Errorf("ParseVersion(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func FuzzPktLine(f *testing.F) {
	f.Add([]byte("0006a\n00000001000200040009b\x00cd\n"))
	f.Add([]byte("fff0"))
	f.Add([]byte("0003"))
	f.Add([]byte(pkts("ERR no", "0000")))
	f.Fuzz(func(t *testing.T, in []byte) {
		// What was read, written again, is what was there.
		var out bytes.Buffer
		pr := protocol.NewPktReader(iotest.OneByteReader(bytes.NewReader(in)), 1<<20)
		defer pr.Close()
		pw := protocol.NewPktWriter(&out)
		defer pw.Close()
		for {
			k, b, err := pr.Next()
			if err != nil {
				break
			}
			switch line, ok := strings.CutSuffix(string(b), "\n"); {
			case k == protocol.PktFlush:
				pw.Flush()
			case k == protocol.PktDelim:
				pw.Delim()
			case ok:
				pw.Line(line)
			default:
				return
			}
		}
		if err := pw.Send(); err != nil {
			t.Fatal(err)
		}
		if !bytes.EqualFold(out.Bytes(), in[:min(out.Len(), len(in))]) {
			t.Errorf("%q was written again as %q", in, out.Bytes())
		}
	})
}
