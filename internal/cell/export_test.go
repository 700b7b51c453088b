package cell

// WithFault makes options under which fault is called at each point of the pipeline: "put" before files move into the
// bucket, "commit" before the transaction, "committed" after it, "rewritten" in a compaction. An error of fault is one of
// that step.
func (o Options) WithFault(fault func(point string) error) Options {
	o.fault = fault
	return o
}

// Turn takes the right to write, and so holds up all writers.
func (c *Cell) Turn() (release func()) {
	c.turn <- struct{}{}
	return func() { <-c.turn }
}

// Pending is how many updates queue.
func (c *Cell) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// Aside is how many packs are set aside.
func (c *Cell) Aside() int { return len(c.state.Load().aside) }
