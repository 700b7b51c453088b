package format

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/skep-dev/skep/internal/errkind"
)

// wasmPages bounds the memory of a module, in pages of 64 KiB: 256 MiB.
const wasmPages = 4096

// wasmModule is a program for WASI preview 1. It has stdin, stdout, stderr and its ID as its only argument: no files, no network, no
// environment; its clock stands still and its random numbers are always the same, so that it writes the same for the same value.
type wasmModule struct {
	id       string
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	timeout  time.Duration
}

// newWASMModule compiles a module.
func newWASMModule(ctx context.Context, id string, code []byte, timeout time.Duration) (*wasmModule, error) {
	config := wazero.NewRuntimeConfig().WithCloseOnContextDone(true).WithMemoryLimitPages(wasmPages)
	m := &wasmModule{id: id, runtime: wazero.NewRuntimeWithConfig(ctx, config), timeout: timeout}
	_, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime)
	if err == nil {
		m.compiled, err = m.runtime.CompileModule(ctx, code)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("compile the module for WASI preview 1: %w", err), m.close(ctx))
	}
	return m, nil
}

func (m *wasmModule) close(ctx context.Context) error { return m.runtime.Close(ctx) }

// run runs the module from its start to its end.
func (m *wasmModule) run(ctx context.Context, stdin []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, fmt.Errorf("it took more than %s: %w", m.timeout, errkind.TooLarge))
	defer cancel()
	stdout, stderr := limitedBuffer{limit: MaxBytes, full: cancel}, limitedBuffer{limit: maxStderr}
	config := wazero.NewModuleConfig().WithName("").WithArgs(m.id).
		WithStdin(bytes.NewReader(stdin)).WithStdout(&stdout).WithStderr(&stderr)
	instance, err := m.runtime.InstantiateModule(ctx, m.compiled, config)
	if instance != nil {
		_ = instance.Close(ctx) // its memory; it has ended
	}
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case stdout.passed:
		return nil, fmt.Errorf("its output has more than %d bytes: %w", MaxBytes, errkind.TooLarge)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case exited && exit.ExitCode() != 0:
		return nil, fmt.Errorf("exit status %d%s: %w", exit.ExitCode(), said(&stderr), errkind.Invalid)
	case err != nil && !exited:
		return nil, fmt.Errorf("%w%s: %w", err, said(&stderr), errkind.Invalid)
	}
	return stdout.kept.Bytes(), nil
}
