package publish

import "context"

// Worker is one of several processes that make milestones by themselves. Each step is a look at the document.
func Worker(p *Publisher) func(ctx context.Context) error { return p.worker().step }
