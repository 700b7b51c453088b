package protocol

import (
	"fmt"
	"sync"
	"time"
)

// progressEvery is how often a count is shown: more often is unreadable, and each takes a packet.
const progressEvery = 250 * time.Millisecond

// receiveProgress shows the stages of a push after the receiving, which the client counts itself. What is shown before
// the client has sent all would not be read: it is left out.
type receiveProgress struct {
	mux   *muxer
	quiet bool

	mu    sync.Mutex
	stage string
	last  time.Time
	ended bool
}

// receiving is the stage in which the client still sends.
const receiving = "Receiving objects"

// note takes one count of a stage.
func (p *receiveProgress) note(stage string, done, total int) {
	if stage == receiving {
		return
	}
	p.mu.Lock()
	if stage != p.stage {
		if p.stage == "" {
			p.mux.begin(nil)
		}
		p.stage, p.ended, p.last = stage, false, time.Time{}
	}
	text := ""
	switch now := time.Now(); {
	case p.quiet || p.ended || total <= 0:
	case done >= total:
		p.ended = true
		text = fmt.Sprintf("%s: 100%% (%d/%d), done.\n", stage, total, total)
	case now.Sub(p.last) >= progressEvery:
		p.last = now
		text = fmt.Sprintf("%s: %3d%% (%d/%d)\r", stage, int64(done)*100/int64(total), done, total)
	}
	p.mu.Unlock()
	if text != "" {
		p.mux.Progress(text)
	}
}
