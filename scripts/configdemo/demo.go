package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// demo is one run.
type demo struct {
	dir    string
	pace   pace
	random *rand.Rand // owned by run, which begins others with it
	stage  *stage

	person     *person
	pipeline   *courier
	operator   *balancer
	autoscaler *courier
	reconciler *reconciler

	begun   uint64 // the number of the last operation before the writers began
	head    string // of the log before the daemon was killed
	down    time.Duration
	drained time.Duration // from the end of writing until all was done

	mu       sync.Mutex
	partings map[string]*partings // by writer; guarded by mu
	contests int                  // guarded by mu
}

// partings are how a writer was parted from the daemon.
type partings struct {
	ways  [cuts]int
	total time.Duration
}

// run has everybody write for a while, and ends when all writes are done and the last milestone is applied.
func (d *demo) run(ctx context.Context) error {
	if err := d.stage.set(ctx); err != nil {
		return err
	}
	if err := d.stage.start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	links := map[string]*link{}
	for actor, target := range map[string]func() string{pipeline: d.stage.restAddress, operator: d.stage.grpcAddress, autoscaler: d.stage.restAddress} {
		l, err := newLink(ctx, target)
		if err != nil {
			return err
		}
		links[actor] = l
		group.Go(func() error { return l.run(ctx) })
	}
	if err := d.cast(ctx, links); err != nil {
		return err
	}
	group.Go(func() error { return d.operator.watch(ctx) })
	var couriers errgroup.Group
	for _, c := range d.couriers() {
		couriers.Go(func() error { return c.run(ctx) })
	}
	if err := d.write(ctx, links); err != nil {
		return err
	}
	ended := time.Now()
	for _, c := range d.couriers() {
		c.close()
	}
	stop := time.AfterFunc(drainPatience, cancel)
	defer stop.Stop()
	if err := couriers.Wait(); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	d.drained = time.Since(ended)
	if err := d.finish(ctx); err != nil {
		return err
	}
	cancel()
	return group.Wait()
}

// drainPatience is how long it may take, once nobody is parted any more, until everything is done.
const drainPatience = 2 * time.Minute

func (d *demo) couriers() []*courier { return []*courier{d.pipeline, d.operator.courier, d.autoscaler} }

// notPermitted is why each network writer tries something, first of all, that the roles do not give it.
const notPermitted = "to see whether I may"

// cast makes the writers, each at the end of its link, and the reconciler.
func (d *demo) cast(ctx context.Context, links map[string]*link) error {
	d.partings = map[string]*partings{pipeline: {}, operator: {}, autoscaler: {}}
	d.person = newPerson(d.stage)
	rest, courier := newREST(links[pipeline].address(), d.stage.keys[pipeline], pipeline, 2)
	d.pipeline = courier
	_, d.autoscaler = newREST(links[autoscaler].address(), d.stage.keys[autoscaler], autoscaler, 100)
	d.operator = newBalancer(links[operator].address(), d.stage.keys[operator])
	version, err := rest.version(ctx)
	if err != nil {
		return err
	}
	d.begun = versionNumber(version)
	d.operator.cursor = d.begun
	for _, c := range d.couriers() {
		c.saw(version)
	}
	// Each tries something first that it may not do.
	d.pipeline.send(operation{Type: "set_field", EntityID: "service.api", Field: "replicas", Value: int64(90), Intent: notPermitted})
	d.operator.send(operation{Type: "set_field", EntityID: "service.api", Field: "image", Value: "mine", Intent: notPermitted})
	d.autoscaler.send(operation{Type: "set_field", EntityID: "service.api", Field: "replicas", Value: int64(1), Override: true, Intent: notPermitted})
	d.reconciler, err = startReconciler(ctx, d.stage, d.pace.reconcile)
	return err
}

// write has everybody write until the time is over.
func (d *demo) write(ctx context.Context, links map[string]*link) error {
	ctx, cancel := context.WithTimeout(ctx, d.pace.duration)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	forPerson, forOperator := make(chan string, 100), make(chan string, 100)
	random := func() *rand.Rand { return rand.New(rand.NewPCG(d.random.Uint64(), d.random.Uint64())) } //nolint:gosec // a demonstration
	ofPipeline, ofAutoscaler := random(), random()
	group.Go(func() error { return d.person.work(ctx, d.pace.person, d.pace.milestone, forPerson) })
	group.Go(func() error { return deploy(ctx, d.pipeline, d.pace.pipeline, ofPipeline) })
	group.Go(func() error { return d.operator.decide(ctx, d.pace.operator, forOperator) })
	group.Go(func() error { return scale(ctx, d.autoscaler, d.pace.autoscaler, ofAutoscaler) })
	group.Go(func() error { return d.crash(ctx) })
	for _, actor := range []string{pipeline, operator, autoscaler} {
		r, l := random(), links[actor]
		group.Go(func() error {
			d.part(ctx, l, actor, r, func() {
				if actor != operator {
					return
				}
				d.mu.Lock()
				service := "service." + names[d.contests%len(names)]
				d.contests++
				d.mu.Unlock()
				forPerson <- service
				forOperator <- service
			})
			return nil
		})
	}
	return group.Wait()
}

// part cuts a link now and then, in all ways, until ctx ends. Of each cut it tells.
func (d *demo) part(ctx context.Context, l *link, actor string, random *rand.Rand, tell func()) {
	between := func(span [2]time.Duration) time.Duration {
		return span[0] + time.Duration(random.Int64N(int64(span[1]-span[0])))
	}
	for n := random.IntN(int(cuts)); ; n++ {
		if !wait(ctx, between(d.pace.together)) {
			return
		}
		how, since := cut(n)%cuts, time.Now()
		l.cut(how)
		tell()
		wait(ctx, between(d.pace.parted))
		l.heal(how)
		d.mu.Lock()
		p := d.partings[actor]
		p.ways[how]++
		p.total += time.Since(since)
		d.mu.Unlock()
	}
}

// crash kills the daemon in the middle, and starts it again.
func (d *demo) crash(ctx context.Context) error {
	if !wait(ctx, d.pace.duration/2) {
		return nil
	}
	var before status
	if err := d.stage.read(ctx, "", &before, "status"); err != nil {
		return err
	}
	d.head = fmt.Sprintf("%d:%s", before.Operations, before.Head)
	since := time.Now()
	if err := d.stage.stop(os.Kill); err != nil {
		return err
	}
	wait(ctx, d.pace.together[0]/2)
	err := d.stage.start(context.WithoutCancel(ctx))
	d.down = time.Since(since)
	return err
}

// finish has the person choose where that is still needed and make the last milestone, and waits until all have seen it.
func (d *demo) finish(ctx context.Context) error {
	if err := d.person.resolve(ctx); err != nil {
		return err
	}
	if err := d.person.set(ctx, "route.api", "path", "/api/final", "the last one"); err != nil {
		return err
	}
	if err := d.person.commit(ctx); err != nil {
		return err
	}
	last := d.person.writes[len(d.person.writes)-1].result.Seq
	commit := d.person.milestones[len(d.person.milestones)-1]
	for d.operator.watched() < last || d.reconciler.applied() != commit {
		if !wait(ctx, retryAfter) {
			return fmt.Errorf("the operator has seen %d of %d operations, and the reconciler applied %q, not %s", d.operator.watched(), last, d.reconciler.applied(), commit)
		}
	}
	return d.reconciler.stop()
}

// close ends what still runs.
func (d *demo) close() error {
	var err error
	if d.reconciler != nil {
		err = d.reconciler.stop()
	}
	return errors.Join(err, d.stage.stop(os.Interrupt))
}
