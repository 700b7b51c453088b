package protocol

import (
	"io"
	"time"
)

// Muxer opens the side-band muxer to tests.
type Muxer = muxer

// What NewMuxer may be asked for.
const (
	NoSideBand   = noSideBand
	SideBandData = sideBandData
	SideBand64k  = sideBand64k
)

// NewMuxer is newMuxer.
func NewMuxer(out io.Writer, most int) *Muxer { return newMuxer(out, most, 0) }

// NewMuxerEvery is newMuxer that breaks silences when it is told to.
func NewMuxerEvery(out io.Writer, most int, every time.Duration) *Muxer {
	return newMuxer(out, most, every)
}

// NewSideBandReader reads what a Muxer wrote.
func NewSideBandReader(r io.Reader, progress io.Writer) io.Reader {
	return &sideBandReader{pkts: NewPktReader(r, maxAnswerBytes), progress: progress}
}
