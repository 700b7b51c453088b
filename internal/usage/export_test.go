package usage

import "time"

// SetClock replaces time.Now.
func (m *Meter) SetClock(now func() time.Time) { m.now = now }

// MaxBatch is how many records a batch has at most.
const MaxBatch = maxBatch

// Kinds lists all kinds.
func Kinds() (list []Kind) {
	for k := Fetch; k < kinds; k++ {
		list = append(list, k)
	}
	return list
}
