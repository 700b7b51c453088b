package format

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of plugins.
const (
	maxPluginFile = 1 << 20
	maxPlugins    = 64
	maxWASM       = 64 << 20
)

// Plugins are formats that programs of the user write. Each program gets a value as canonical JSON on stdin and answers with the bytes
// of the file on stdout; what it says on stderr is in the error if it ends with another status than 0.
//
//	[[plugin]]
//	id = "ini"
//	extension = "ini"                    # the ID by default
//	display_name = "INI"                 # the ID by default
//	alternate_extensions = ["cfg"]
//	command = ["./to-ini", "--sorted"]   # a program; one that starts with ./ is sought beside this file
//	timeout = "5s"                       # 10 s by default
//
//	[[plugin]]
//	id = "env"
//	wasm = "to-env.wasm"                 # or a module for WASI preview 1, beside this file
type Plugins struct {
	Serializers []Serializer
	modules     []*wasmModule
}

// pluginFile is the form of the file.
type pluginFile struct {
	Plugin []pluginEntry `toml:"plugin"`
}

type pluginEntry struct {
	ID                  string   `toml:"id"`
	Extension           string   `toml:"extension"`
	DisplayName         string   `toml:"display_name"`
	AlternateExtensions []string `toml:"alternate_extensions"`
	Command             []string `toml:"command"`
	WASM                string   `toml:"wasm"`
	Timeout             string   `toml:"timeout"`
}

// LoadPlugins reads a file of plugins. Close releases what they hold.
func LoadPlugins(ctx context.Context, file string) (*Plugins, error) {
	data, err := readLimited(file, maxPluginFile)
	if err != nil {
		return nil, fmt.Errorf("read plugins: %w", err)
	}
	entries, places, err := parsePlugins(file, data)
	if err != nil {
		return nil, err
	}
	all := &Plugins{}
	for i, e := range entries {
		s, err := all.serializer(ctx, filepath.Dir(file), e)
		if err != nil {
			p := places[min(i, len(places)-1)]
			return nil, errors.Join(malformed(file, p.Line, p.Column, "plugin %q: %s", e.ID, reason(err)), all.Close(ctx))
		}
		all.Serializers = append(all.Serializers, s)
	}
	return all, nil
}

// parsePlugins gives the plugins of a file, and where each starts.
func parsePlugins(file string, data []byte) ([]pluginEntry, []unstable.Position, error) {
	var f pluginFile
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&f)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		line, column := unknown.Errors[0].Position()
		return nil, nil, malformed(file, line, column, "%s is not known; a plugin has id, extension, display_name, alternate_extensions, command or wasm, and timeout",
			joinKey(unknown.Errors[0].Key()))
	}
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := at.Position()
		return nil, nil, malformed(file, line, column, "%s", at.Error())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", file, err, errkind.Invalid)
	}
	if len(f.Plugin) > maxPlugins {
		return nil, nil, fmt.Errorf("%s: it has %d plugins, and %d are allowed: %w", file, len(f.Plugin), maxPlugins, errkind.TooLarge)
	}
	return f.Plugin, pluginPlaces(data), nil
}

func joinKey(key toml.Key) string { return fmt.Sprintf("%q", key[len(key)-1]) }

// pluginPlaces gives the place of each [[plugin]], and of the whole for plugins in a list. There is one at least.
func pluginPlaces(data []byte) []unstable.Position {
	var places []unstable.Position
	p := &unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		if keys := e.Key(); keys.Next() && string(keys.Node().Data) == "plugin" {
			places = append(places, p.Shape(keys.Node().Raw).Start)
		}
	}
	if len(places) == 0 {
		places = append(places, unstable.Position{Line: 1, Column: 1})
	}
	return places
}

// serializer makes the format of an entry.
func (p *Plugins) serializer(ctx context.Context, dir string, e pluginEntry) (Serializer, error) {
	about := about{id: e.ID, extension: cmp.Or(e.Extension, e.ID), name: cmp.Or(e.DisplayName, e.ID), alternate: e.AlternateExtensions}
	if !plainName(e.ID) {
		return nil, errors.New("an ID has 1 to 32 of the characters a-z, 0-9, - and _")
	}
	timeout := defaultTimeout
	if e.Timeout != "" {
		var err error
		if timeout, err = time.ParseDuration(e.Timeout); err != nil || timeout <= 0 {
			return nil, fmt.Errorf("the timeout %q is no time; write one as \"5s\"", e.Timeout)
		}
	}
	switch {
	case (len(e.Command) > 0) == (e.WASM != ""):
		return nil, errors.New("write one of command and wasm")
	case len(e.Command) > 0 && e.Command[0] == "":
		return nil, errors.New("the first element of command is the program")
	case len(e.Command) > 0:
		return plugin{about, process{command: e.Command, dir: dir, timeout: timeout}}, nil
	}
	code, err := readLimited(filepath.Join(dir, e.WASM), maxWASM)
	if err != nil {
		return nil, err
	}
	m, err := newWASMModule(ctx, e.ID, code, timeout)
	if err != nil {
		return nil, err
	}
	p.modules = append(p.modules, m)
	return plugin{about, m}, nil
}

// readLimited reads a file.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes: %w", path, limit, errkind.TooLarge)
	}
	return data, err
}

// Close releases the modules.
func (p *Plugins) Close(ctx context.Context) error {
	var errs []error
	for _, m := range p.modules {
		errs = append(errs, m.close(ctx))
	}
	return errors.Join(errs...)
}

// runner is what runs a program: a process or a WASM module.
type runner interface {
	run(ctx context.Context, stdin []byte) ([]byte, error)
}

// plugin is a format that a program writes.
type plugin struct {
	about
	runner runner
}

// Marshal lets the program write a value.
func (p plugin) Marshal(ctx context.Context, v any) ([]byte, error) {
	out, err := p.runner.run(ctx, value.Encode(v))
	if err != nil {
		return nil, fmt.Errorf("write %s by its plugin: %w", p.name, err)
	}
	return out, nil
}
