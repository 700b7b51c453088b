package protocol

import "io"

// Muxer opens the side-band muxer to tests.
type Muxer = muxer

// What NewMuxer may be asked for.
const (
	NoSideBand   = noSideBand
	SideBandData = sideBandData
	SideBand64k  = sideBand64k
)

// NewMuxer is newMuxer.
func NewMuxer(out io.Writer, most int) *Muxer { return newMuxer(out, most) }

// NewSideBandReader reads what a Muxer wrote.
func NewSideBandReader(r io.Reader, progress io.Writer) io.Reader {
	return &sideBandReader{pkts: NewPktReader(r, maxAnswerBytes), progress: progress}
}
