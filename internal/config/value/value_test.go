package value_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/value/valuetest"
)

// What is encoded is JSON, comes back as the same value, and equal values have equal texts.
func TestEncodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := valuetest.Any().Draw(t, "value")
		text := value.Encode(v)
		if !json.Valid(text) {
			t.Fatalf("Encode(%v) = %s, which is no JSON", v, text)
		}
		back, err := value.Decode(text)
		if err != nil {
			t.Fatalf("Decode(%s): %v", text, err)
		}
		if !value.Equal(v, back) {
			t.Fatalf("Decode(%s): %s", text, cmp.Diff(v, back))
		}
		other := valuetest.Any().Draw(t, "other")
		if value.Equal(v, other) != (string(text) == string(value.Encode(other))) {
			t.Fatalf("%s and %s: Equal says %v", text, value.Encode(other), value.Equal(v, other))
		}
	})
}

func TestDecode(t *testing.T) {
	tests := []struct {
		in   string
		want any
		err  string
	}{
		{in: `1`, want: int64(1)},
		{in: `1.0`, want: 1.0},
		{in: `-0.0`, want: 0.0},
		{in: `1e3`, want: 1000.0},
		{in: `9223372036854775807`, want: int64(math.MaxInt64)},
		{in: `9223372036854775808`, err: "does not fit into 64 bits"},
		{in: `1e999`, err: "too large for a float"},
		{in: `{"a":[1,{"b":null}]}`, want: map[string]any{"a": []any{int64(1), map[string]any{"b": nil}}}},
		{in: `{"a":1,"a":2}`, err: `the key "a" is there twice`},
		{in: `1 2`, err: "more follows"},
		{in: `[1`, err: "EOF"},
		{in: ``, err: "EOF"},
		{in: "\"\xff\"", err: "not UTF-8"},
		{in: strings.Repeat("[", 33) + strings.Repeat("]", 33), err: "deeper than 32"},
		{in: `"` + strings.Repeat("x", value.MaxBytes) + `"`, err: "are allowed"},
	}
	for _, tt := range tests {
		got, err := value.Decode([]byte(tt.in))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Decode(%.40q) gave error %v, want %q", tt.in, err, tt.err)
			}
			continue
		}
		if err != nil || !value.Equal(got, tt.want) {
			t.Errorf("Decode(%.40q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestNormalize(t *testing.T) {
	type word string
	got, err := value.Normalize(map[any]any{word("a"): []int8{1}, "b": float32(0.5), "c": uint16(7), "d": word("x")})
	want := map[string]any{"a": []any{int64(1)}, "b": 0.5, "c": int64(7), "d": "x"}
	if err != nil || !value.Equal(got, want) {
		t.Errorf("Normalize = %v, %v, want %v", got, err, want)
	}
	for _, bad := range []any{math.NaN(), uint64(math.MaxUint64), map[any]any{1: 2}, []any{make(chan int)}, "\xff"} {
		if v, err := value.Normalize(bad); err == nil {
			t.Errorf("Normalize(%v) = %v, want an error", bad, v)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`null`, `{"a":[1,2.5,"x"]}`, `-0.0`, `1e400`, `[[[]]]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := value.Decode(data)
		if err != nil {
			return
		}
		text := value.Encode(v)
		again, err := value.Decode(text)
		if err != nil && len(text) <= value.MaxBytes || err == nil && !value.Equal(v, again) {
			t.Errorf("Decode(%q) = %v; encoded and decoded again: %v, %v", data, v, again, err)
		}
	})
}

func TestDecodeWithin(t *testing.T) {
	deep := []byte(strings.Repeat("[", 33) + strings.Repeat("]", 33))
	v, err := value.DecodeWithin(deep, value.Limits{Depth: 33, Bytes: 66})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := value.NormalizeWithin(v, value.Limits{Depth: 33}); err != nil {
		t.Error(err)
	}
	if _, err := value.Normalize(v); err == nil {
		t.Error("Normalize took 33 levels")
	}
	if _, err := value.DecodeWithin(deep, value.Limits{Depth: 33, Bytes: 65}); err == nil {
		t.Error("66 bytes were read where 65 are allowed")
	}
}

// A mistake in a file is found by its line.
func TestDecodeSaysWhere(t *testing.T) {
	_, err := value.Decode([]byte("{\n  \"é\": 1,\n  \"a\": tru\n}"))
	if err == nil || !strings.Contains(err.Error(), "line 3 column ") {
		t.Errorf("%v, want line 3", err)
	}
}
