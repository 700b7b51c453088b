package crdt

// Epochs are the times between overrides. An override begins one, which has the name of its operation; the zero Dot names the one before
// the first. A write says which epoch it belongs to: that of the last override that its maker had seen. Only the writes of the latest
// override's epoch count, so that one that had not seen an override does not undo it, and later ones go on from it.
type Epochs[W any] struct {
	Override *Entry    // the latest
	Writes   map[Dot]W // what is kept of each epoch that is current, or whose override has not come
}

// Epoch returns the current epoch's name.
func (s *Epochs[W]) Epoch() Dot {
	if s.Override == nil {
		return Dot{}
	}
	return s.Override.Dot
}

// Current returns what is kept of the current epoch.
func (s *Epochs[W]) Current() W { return s.Writes[s.Epoch()] }

// PutOverride tells of an override.
func (s *Epochs[W]) PutOverride(e *Entry) {
	old := s.Epoch()
	if s.Override = later(s.Override, e); s.Override == e {
		if old != e.Dot { // an operation that overrides twice begins one epoch
			delete(s.Writes, old)
		}
	} else if e.Dot != s.Epoch() {
		delete(s.Writes, e.Dot)
	}
}

// over reports whether an epoch has ended: its override came, and was not the latest.
func (s *Epochs[W]) over(epoch Dot, known func(Dot) bool) bool {
	return epoch != s.Epoch() && known(epoch)
}

// keep keeps something of an epoch.
func (s *Epochs[W]) keep(epoch Dot, w W) {
	if s.Writes == nil {
		s.Writes = map[Dot]W{}
	}
	s.Writes[epoch] = w
}
