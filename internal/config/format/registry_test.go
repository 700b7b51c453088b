package format_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/errkind"
)

// custom is a format of somebody who embeds this package.
type custom struct {
	id, extension string
	alternate     []string
}

func (c custom) ID() string                    { return c.id }
func (c custom) Extension() string             { return c.extension }
func (c custom) DisplayName() string           { return strings.ToUpper(c.id) }
func (c custom) AlternateExtensions() []string { return c.alternate }

type customWriter struct{ custom }

func (customWriter) Marshal(context.Context, any) ([]byte, error) { return []byte("custom"), nil }

func TestBuiltInFormats(t *testing.T) {
	r := format.NewRegistry()
	var ids []string
	for _, f := range r.Formats() {
		ids = append(ids, f.ID())
		if _, ok := f.(format.Serializer); !ok {
			t.Errorf("%s cannot be written", f.ID())
		}
	}
	if want := []string{"hcl", "json", "kdl", "toml", "xml", "yaml"}; !slices.Equal(ids, want) {
		t.Errorf("there are %v, want %v", ids, want)
	}
	for file, id := range map[string]string{"a/b.yaml": "yaml", "B.YML": "yaml", "x.tf": "hcl", "x.hcl": "hcl", "x.y.json": "json"} {
		if f, err := r.ForFile(file); err != nil || f.ID() != id {
			t.Errorf("%s is %v, %v, want %s", file, f, err, id)
		}
	}
	for _, file := range []string{"yaml", "a.ini", "a."} {
		if f, err := r.ForFile(file); !errors.Is(err, errkind.NotFound) {
			t.Errorf("%s is %v, %v, want errkind.NotFound", file, f, err)
		}
	}
	if _, err := r.Serializer("ini"); !errors.Is(err, errkind.NotFound) || !strings.Contains(err.Error(), "hcl, json, kdl, toml, xml, yaml") {
		t.Errorf("%v, want the list of formats", err)
	}
}

func TestRegister(t *testing.T) {
	r := format.NewRegistry()
	if err := r.Register(customWriter{custom{"ini", "ini", []string{"cfg"}}}); err != nil {
		t.Fatal(err)
	}
	if f, err := r.ForFile("x.cfg"); err != nil || f.ID() != "ini" {
		t.Errorf("x.cfg is %v, %v", f, err)
	}
	if s, err := r.Serializer("ini"); err != nil || s.DisplayName() != "INI" {
		t.Errorf("Serializer(ini) = %v, %v", s, err)
	}
	if _, err := r.Parser("ini"); !errors.Is(err, errkind.Unsupported) {
		t.Errorf("%v, want errkind.Unsupported", err)
	}
	tests := []struct {
		name string
		f    format.Format
		want errkind.Kind
	}{
		{"an ID that is taken", customWriter{custom{"yaml", "x", nil}}, errkind.Exists},
		{"an extension that is taken", customWriter{custom{"x", "yml", nil}}, errkind.Exists},
		{"an alternate extension that is taken", customWriter{custom{"x", "x", []string{"tf"}}}, errkind.Exists},
		{"an extension that is there twice", customWriter{custom{"x", "x", []string{"x"}}}, errkind.Invalid},
		{"an extension with a point", customWriter{custom{"x", ".x", nil}}, errkind.Invalid},
		{"no extension", customWriter{custom{"x", "", nil}}, errkind.Invalid},
		{"an ID that is no name", customWriter{custom{"X Y", "x", nil}}, errkind.Invalid},
		{"neither a serializer nor a parser", custom{"x", "x", nil}, errkind.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := r.Register(tt.f); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
