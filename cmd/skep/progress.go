package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// isTerminal reports whether a person is likely to be watching f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// drawEvery is how often a bar is drawn: often enough to move, seldom enough to cost nothing.
const drawEvery = 100 * time.Millisecond

// bar draws how far a long piece of work is. On a terminal it is one line that is drawn again and again; elsewhere a line
// for each stage that ends.
type bar struct {
	w        io.Writer
	terminal bool

	mu    sync.Mutex
	drawn time.Time
	line  string
}

func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	return &bar{w: w, terminal: ok && isTerminal(f)}
}

// step shows that done of total (0 when nobody knows) are done; note comes behind it.
func (b *bar) step(stage string, done, total int64, note string) {
	const width = 24
	b.mu.Lock()
	defer b.mu.Unlock()
	ends := total > 0 && done >= total
	if !b.terminal || (!ends && time.Since(b.drawn) < drawEvery) {
		return
	}
	b.drawn = time.Now()
	line := stage + note
	if total > 0 {
		// They are a remote's word, so they may be anything.
		done = min(done, total)
		full := int(float64(done) / float64(total) * width)
		line = fmt.Sprintf("%s [%s%s] %3d%% (%d/%d)%s", stage, strings.Repeat("#", full), strings.Repeat(".", width-full), int(float64(done)/float64(total)*100), done, total, note)
	}
	b.draw(line)
}

// end takes the line that is being drawn away.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draw("")
	if b.terminal {
		fmt.Fprint(b.w, "\r")
	}
}

// say ends the line that is being drawn and writes one that stays.
func (b *bar) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draw("")
	fmt.Fprintf(b.w, format+"\n", args...)
}

func (b *bar) draw(line string) {
	if !b.terminal {
		return
	}
	blank := ""
	if n := len(b.line) - len(line); n > 0 {
		blank = strings.Repeat(" ", n) + strings.Repeat("\b", n)
	}
	fmt.Fprintf(b.w, "\r%s%s", line, blank)
	b.line = line
}

// size writes a number of bytes as people read it.
func size(n int64) string {
	const k = 1024
	if n < k {
		return fmt.Sprintf("%d B", n)
	}
	div, unit := int64(k), 0
	for m := n / k; m >= k; m /= k {
		div *= k
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[unit])
}
