// Command configdemo has a person, a pipeline, an operator and an autoscaler write to one document, with the network between them and its
// daemon cut again and again, and checks from the outside that nothing was lost.
//
// Nothing in it is a double: the person uses the command line of the skep that is tested, the pipeline and the autoscaler REST, the operator
// gRPC, and a reconciler, which is a process of its own, applies the milestones with git. What each of them was told is held against the log,
// the state, the files and the history at the end; model.go says what these should be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == reconcileCommand {
		err = reconcileMain(ctx, os.Args[2:])
	} else {
		err = demoMain(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "config-demo:", err)
		stop()
		os.Exit(1)
	}
}

func demoMain(ctx context.Context) error {
	skep := flag.String("skep", "bin/skep", "the binary that is shown")
	duration := flag.Duration("duration", 10*time.Minute, "how long the writers write")
	seed := flag.Uint64("seed", uint64(time.Now().Unix()), "of all that is random") //nolint:gosec // a time after 1970
	keep := flag.Bool("keep", false, "leave the folder in place")
	flag.Parse()
	if *duration < shortest {
		return fmt.Errorf("--duration is at least %s", shortest)
	}
	dir, err := os.MkdirTemp("", "skep-config-demo-")
	if err != nil {
		return err
	}
	if *keep {
		fmt.Println("The folder is", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	binary, err := filepath.Abs(*skep)
	if err != nil {
		return err
	}
	fmt.Printf("Four writers for %s, seed %d.\n", *duration, *seed)
	d := &demo{dir: dir, pace: paceOf(*duration), random: rand.New(rand.NewPCG(*seed, 0)), stage: &stage{binary: binary, dir: filepath.Join(dir, "infrastructure")}} //nolint:gosec // a demonstration
	err = d.run(ctx)
	if err == nil {
		err = d.report(ctx, os.Stdout)
	}
	return errors.Join(err, d.close())
}

// shortest is a duration in which every writer is cut off at least once.
const shortest = 10 * time.Second

// pace says how often things happen, so that a short run has some of all that a long one has.
type pace struct {
	duration             time.Duration
	together, parted     [2]time.Duration // from, to
	person, pipeline     time.Duration
	operator, autoscaler time.Duration
	milestone, reconcile time.Duration
}

func paceOf(d time.Duration) pace {
	return pace{
		duration: d,
		together: [2]time.Duration{max(d/75, time.Second), max(d/20, 2*time.Second)},
		parted:   [2]time.Duration{max(d/200, time.Second), max(d/40, 2*time.Second)},
		person:   min(max(d/300, 200*time.Millisecond), 2*time.Second), pipeline: min(max(d/600, 200*time.Millisecond), time.Second),
		operator: min(max(d/300, 300*time.Millisecond), 2*time.Second), autoscaler: time.Second / 50,
		milestone: d / 12, reconcile: min(max(d/120, 250*time.Millisecond), 5*time.Second),
	}
}
