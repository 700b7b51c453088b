package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// person works in a terminal: all that it does are commands of skep config.
type person struct {
	*ledger
	stage *stage

	// Owned by work, as all below, and read when it has ended.
	shown      map[string]map[string]bool // of each field in conflict: the writes that a list of conflicts had together
	resolved   int
	milestones []string
	choices    int // since the last milestone
	waited     int // milestones that there were none of, because somebody had to choose first
	done       int
}

func newPerson(s *stage) *person {
	return &person{ledger: &ledger{actor: zara}, stage: s, shown: map[string]map[string]bool{}}
}

// conflict is a field for which somebody has to choose.
type conflict struct {
	EntityID   string `json:"entity_id"`
	Field      string `json:"field"`
	Candidates []struct {
		Operation string `json:"operation"`
		Value     any    `json:"value"`
	} `json:"candidates"`
}

// exitConflict is the exit code of skep when the document does not permit something as it is.
const exitConflict = 5

// run has one write done.
func (p *person) run(ctx context.Context, op operation, args ...string) error {
	w := p.decide(op)
	p.tried([]*write{w})
	sent := time.Now()
	if op.Base != "" {
		args = append(args, "--base", op.Base)
	}
	var r result
	var err error
	if op.Type == "resolve_conflict" {
		var list []result
		if err = p.stage.read(ctx, zara, &list, args...); err == nil {
			r = list[0]
		}
	} else {
		err = p.stage.read(ctx, zara, &r, args...)
	}
	if err != nil {
		return err
	}
	p.acknowledged(w, sent, r)
	return nil
}

// set writes a field of an entity, by what it looks like now.
func (p *person) set(ctx context.Context, id, field string, value any, why string, flags ...string) error {
	var e entity
	if err := p.stage.read(ctx, zara, &e, "get", id); err != nil {
		return err
	}
	op := operation{Type: "set_field", EntityID: id, Field: field, Value: value, Base: e.Version, Intent: why, Override: len(flags) > 0}
	return p.run(ctx, op, append([]string{"set", id, field, fmt.Sprint(value), "--intent", why}, flags...)...)
}

// work is what the person does until ctx ends: a little of everything, contests as they come, and milestones.
func (p *person) work(ctx context.Context, every, milestone time.Duration, contests <-chan string) error {
	tick, commit := time.NewTicker(every), time.NewTicker(milestone)
	defer tick.Stop()
	defer commit.Stop()
	unfinished := context.WithoutCancel(ctx) // what was begun is ended
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case service := <-contests:
			err = p.set(unfinished, service, "plan", "medium", "agreed with finance")
		case <-commit.C:
			err = p.commit(unfinished)
		case <-tick.C:
			err = p.something(unfinished)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", zara, err)
		}
	}
}

// something is one of the things to do.
func (p *person) something(ctx context.Context) error {
	p.done++
	name := names[p.done/5%len(names)]
	switch p.done % 5 {
	case 0:
		return p.set(ctx, "service."+name, "replicas", 3, "the database cannot take more", "--override")
	case 1:
		return p.set(ctx, "route."+name, "timeout", fmt.Sprintf("%ds", 30-p.done/20%20), "slow clients")
	case 2:
		return p.set(ctx, "route."+name, "weight", 20, "canary", "--override")
	case 3:
		return p.set(ctx, "route."+name, "path", fmt.Sprintf("/%s/v%d", name, p.done), "next version of the API")
	default:
		return p.resolve(ctx)
	}
}

// resolve chooses in every conflict that is listed.
func (p *person) resolve(ctx context.Context) error {
	var seen status
	if err := p.stage.read(ctx, zara, &seen, "status"); err != nil {
		return err
	}
	var list []conflict
	if err := p.stage.read(ctx, zara, &list, "conflicts"); err != nil {
		return err
	}
	for _, c := range list {
		path, ids := c.EntityID+"."+c.Field, []string{}
		for _, from := range c.Candidates {
			ids = append(ids, from.Operation)
		}
		if p.shown[path] == nil {
			p.shown[path] = map[string]bool{}
		}
		p.shown[path][together(ids)] = true
		value := c.Candidates[0].Value
		op := operation{Type: "resolve_conflict", EntityID: c.EntityID, Field: c.Field, Value: value, Base: seen.Version, Intent: "asked both"}
		err := p.run(ctx, op, "resolve", c.EntityID, c.Field, fmt.Sprint(value), "--intent", "asked both")
		if err != nil {
			return err
		}
		p.resolved++
		p.choices++
	}
	return nil
}

// maxChoices is how often a milestone may have to wait for somebody to choose: writes go on coming.
const maxChoices = 20

// commit makes a milestone, and chooses first where that is needed.
func (p *person) commit(ctx context.Context) error {
	for range maxChoices {
		var made struct {
			ID string `json:"id"`
		}
		subject := fmt.Sprintf("review %d", len(p.milestones)+1)
		if p.choices > 0 {
			subject += fmt.Sprintf(", conflicts resolved: %d", p.choices)
		}
		err := p.stage.read(ctx, zara, &made, "milestone", "create", "-m", subject)
		if f, ok := errors.AsType[*failed](err); ok && f.code == exitConflict {
			before := p.resolved
			if err := p.resolve(ctx); err != nil {
				return err
			}
			if p.resolved == before {
				return nil // nobody had to choose: nothing has changed since the last one
			}
			p.waited++
			continue
		}
		if err == nil {
			p.milestones, p.choices = append(p.milestones, made.ID), 0
		}
		return err
	}
	return errors.New("milestone: conflicts come faster than they are resolved")
}
