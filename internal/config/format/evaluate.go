package format

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"github.com/google/go-jsonnet"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of an evaluation.
const (
	maxSource  = 1 << 20              // of a source, which people write
	evalStack  = 64 << 20             // of one goroutine: parsers call themselves as deep as the source says
	evalMemory = 512 << 20            // of the heap
	evalTime   = 2 * time.Minute      // after which it ends by itself, should nobody be there any more to end it
	evalLook   = 5 * time.Millisecond // how often the heap is looked at
)

// heapInUse is the metric of the memory that objects take, with what the collector has not freed yet.
const heapInUse = "/memory/classes/heap/objects:bytes"

// Evaluator reads Jsonnet and CUE, which are programs: a few characters can ask for all of a machine's memory, or run for ever, and
// neither library can be stopped. So each source is evaluated by a process of its own, which has limits and can be ended.
type Evaluator struct {
	// Command is the program and its first arguments. The language and the file's name follow, which may start with a dash; what
	// it does is to call Evaluate with them, and to end.
	Command []string
	// Timeout is how long an evaluation may take; 10 s by default.
	Timeout time.Duration
}

// Formats returns the formats that are read so, to be registered.
func (e Evaluator) Formats() []Parser {
	return []Parser{
		evaluated{about{id: "cue", extension: "cue", name: "CUE"}, e},
		evaluated{about{id: "jsonnet", extension: "jsonnet", name: "Jsonnet"}, e},
	}
}

// evaluated is one of the languages.
type evaluated struct {
	about
	evaluator Evaluator
}

// evaluation is what a process answers.
type evaluation struct {
	Value    json.RawMessage `json:"value,omitempty"`
	Error    string          `json:"error,omitempty"`
	TooLarge bool            `json:"too_large,omitempty"` // the error is a limit
}

// Unmarshal evaluates a source. What it imports is not read, except for CUE's own packages.
func (f evaluated) Unmarshal(ctx context.Context, name string, data []byte) (any, error) {
	if len(data) > maxSource {
		return nil, fmt.Errorf("%s: it has %d bytes, and %d are allowed: %w", name, len(data), maxSource, errkind.TooLarge)
	}
	if err := checkSize(name, data); err != nil {
		return nil, err
	}
	command := append(slices.Clone(f.evaluator.Command), f.id, name)
	out, err := process{command: command, timeout: f.evaluator.Timeout}.run(ctx, data)
	if err != nil {
		if text := err.Error(); strings.Contains(text, "stack overflow") || strings.Contains(text, "goroutine stack exceeds") {
			return nil, fmt.Errorf("%s: it is nested too deep: %w", name, errkind.TooLarge)
		}
		return nil, fmt.Errorf("%s: evaluate: %w", name, err)
	}
	var answer evaluation
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("%s: read what the evaluation answered: %w", name, err)
	}
	switch {
	case answer.TooLarge:
		return nil, fmt.Errorf("%s: %s: %w", name, answer.Error, errkind.TooLarge)
	case answer.Error != "":
		return nil, fmt.Errorf("%s: %s: %w", name, answer.Error, errkind.Invalid)
	}
	return readJSON(name, answer.Value)
}

// Evaluate evaluates a source of Jsonnet or CUE and writes an answer for the process that reads it: the command of an Evaluator calls it
// with its last two arguments, stdin and stdout. It sets limits for the whole process and may leave a goroutine at work, so the
// program must end after it.
func Evaluate(language, name string, source io.Reader, out io.Writer) error {
	debug.SetMaxStack(evalStack)
	debug.SetMemoryLimit(evalMemory / 4 * 3)
	data, err := io.ReadAll(io.LimitReader(source, maxSource))
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	answers := make(chan evaluation, 1)
	go func() { answers <- evaluate(language, name, string(data)) }()
	tick := time.NewTicker(evalLook)
	defer tick.Stop()
	end := time.After(evalTime)
	for {
		select {
		case a := <-answers:
			return json.NewEncoder(out).Encode(a)
		case <-end:
			return fmt.Errorf("it took more than %s", evalTime)
		case <-tick.C:
			if heap() > evalMemory {
				a := evaluation{Error: fmt.Sprintf("it takes more than %d MiB of memory", evalMemory>>20), TooLarge: true}
				return json.NewEncoder(out).Encode(a)
			}
		}
	}
}

// heap is how many bytes objects take.
func heap() uint64 {
	sample := []metrics.Sample{{Name: heapInUse}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func evaluate(language, name, source string) (answer evaluation) {
	defer func() {
		if r := recover(); r != nil {
			answer = evaluation{Error: fmt.Sprintf("the library of this language fails on it: %v", r)}
		}
	}()
	var text string
	var err error
	switch language {
	case "jsonnet":
		text, err = evaluateJsonnet(name, source)
	case "cue":
		text, err = evaluateCUE(name, source)
	default:
		err = fmt.Errorf("there is no language %q, only cue and jsonnet", language)
	}
	if err == nil {
		// Canonical, and so without what only looks like a number.
		var v any
		if v, err = readJSON("the result", []byte(text)); err == nil {
			return evaluation{Value: value.Encode(v)}
		}
	}
	return evaluation{Error: strings.TrimSpace(reason(err))}
}

// noImports answers each import of Jsonnet.
type noImports struct{}

// Import refuses.
func (noImports) Import(_, path string) (jsonnet.Contents, string, error) {
	return jsonnet.Contents{}, "", fmt.Errorf("%s is not imported: a source is evaluated alone; put what it imports into it", path)
}

func evaluateJsonnet(name, source string) (string, error) {
	vm := jsonnet.MakeVM()
	vm.Importer(noImports{})
	return vm.EvaluateAnonymousSnippet(name, source)
}

func evaluateCUE(name, source string) (string, error) {
	v := cuecontext.New().CompileString(source, cue.Filename(name))
	if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
		return "", errors.New(cueerrors.Details(err, nil))
	}
	text, err := v.MarshalJSON()
	if err != nil {
		return "", errors.New(cueerrors.Details(err, nil))
	}
	return string(text), nil
}
