package bus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/bus"
)

func TestParts(t *testing.T) {
	for _, tt := range []struct {
		headers string
		done    bool
		err     string
	}{
		{"1/1", true, ""},
		{"1/3 2/3 3/3", true, ""},
		{"1/3 2/3", false, ""},
		{"1/3 3/3", false, "some are lost"},
		{"2/3", false, "some are lost"},
		{"1/3 1/3", false, "some are lost"},
		{"1/3 2/2", false, "some are lost"},
		{"0/0", false, "some are lost"},
		{"1/0", false, "some are lost"},
		{"-1/1", false, "some are lost"},
		{"01/1", false, "a part says"},
		{"1/1x", false, "a part says"},
		{"x", false, "a part says"},
	} {
		headers := strings.Fields(tt.headers)
		_, done, err := bus.Join(headers, make([][]byte, len(headers)))
		if done != tt.done || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v", tt.headers, done, err)
		}
	}
	var headers []string
	var parts [][]byte
	for i := range 20 {
		headers, parts = append(headers, fmt.Sprintf("%d/20", i+1)), append(parts, make([]byte, bus.MaxMessage))
	}
	if data, _, err := bus.Join(headers, parts); err == nil || len(data) > bus.MaxAnswer {
		t.Errorf("20 parts: %d bytes, %v", len(data), err)
	}
}

func FuzzParts(f *testing.F) {
	f.Add("1/2\n2/2", 10)
	f.Add("1/99999999999999999999", 1<<20)
	f.Fuzz(func(t *testing.T, text string, size int) {
		headers := strings.Split(text, "\n")
		parts := make([][]byte, len(headers))
		for i := range parts {
			parts[i] = make([]byte, max(0, min(size, bus.MaxMessage)))
		}
		if data, _, _ := bus.Join(headers, parts); len(data) > bus.MaxAnswer {
			t.Errorf("it holds %d bytes", len(data))
		}
	})
}
