package bare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// ReceivePack serves a push, as git's receive-pack does:
//
//  1. The pack comes into a quarantine: a folder objects/incoming-…, which no other program sees.
//  2. Each new value must lead to objects that are there. The hook pre-receive decides on the whole push.
//  3. The quarantine joins the repository. proc-receive does what is its to do; the rules of receive.* and the hook update decide on each
//     of the other references, which then move: one by one, or in one transaction (atomic).
//  4. The client is told, then the hooks post-receive and post-update.
func (r *Repo) ReceivePack(ctx context.Context, in io.Reader, out, messages io.Writer, s Service) error {
	st, err := r.load(ctx, s)
	if err != nil {
		return err
	}
	defer st.close()
	rc := &receiver{repo: r, state: st, log: messages}
	defer rc.dropQuarantine()
	opts := receiveOptions(s)
	opts.Messages, opts.Reported = messages, rc.after
	st.view.Others = r.others(ctx, st)
	t := newTracer("receive-pack")
	return protocol.ReceivePack(ctx, rc, t.reader(in), t.writer(out), opts)
}

// receiver is the repository during one push. It implements protocol.Receiver.
type receiver struct {
	repo     *Repo
	state    *state
	incoming *incoming // nil: the push has no objects

	log      io.Writer // of whoever runs this program
	messages io.Writer
	warnings []string // of fsck; guarded by warnMu while the pack is read
	warnMu   sync.Mutex
	options  []string
	done     []git.RefUpdate // what was done, as the hooks that come after hear of it
	told     []git.RefName   // the references that were asked for and moved
}

// View implements protocol.Receiver.
func (rc *receiver) View() protocol.View { return rc.state.view }

// Quarantine implements protocol.Receiver.
func (rc *receiver) Quarantine(ctx context.Context, in io.Reader, progress func(stage string, done, total int)) (*odb.Quarantine, error) {
	inc, err := newIncoming(rc.repo)
	if err != nil {
		return nil, err
	}
	rc.incoming = inc
	check, err := rc.repo.fsckCheck("receive", rc.warn)
	if err != nil {
		return nil, err
	}
	opts := pack.ReceiveOptions{
		Dir: inc.dir, Check: check, Progress: progress, MemoryPack: keepTableFrom,
		MaxPackBytes: maxStoredPack, MaxObjectBytes: 1<<32 - 1,
	}
	if n := rc.repo.config.Int("receive.maxinputsize", 0); n > 0 {
		opts.MaxPackBytes = n
	}
	store := rc.state.view.Objects
	received, err := pack.Receive(ctx, in, store.Completing(opts))
	if errors.Is(err, errkind.TooLarge) && opts.MaxPackBytes < maxStoredPack {
		return nil, fmt.Errorf("pack exceeds maximum allowed size: %w", err)
	}
	if err != nil {
		return nil, err
	}
	q := &odb.Quarantine{Received: received, Store: store}
	if rc.repo.fscks("receive") {
		if err := missingLink(received, store); err != nil {
			return nil, errors.Join(err, received.Close())
		}
	}
	if received.Pack.Len() > 0 {
		q.Store = store.With(received.Pack, nil)
	}
	return q, nil
}

// missingLink finds what the objects of a pack name and nobody has. git looks for that when it judges objects. That parents are there is
// seen to later, as a history may end.
func missingLink(q *pack.Received, store *odb.Store) error {
	for _, l := range q.Outside {
		if l.Kind != git.Commit && !store.Has(l.OID) {
			return fmt.Errorf("object %s is missing, which %s names: %w", l.OID, l.From, errkind.Invalid)
		}
	}
	return nil
}

func (rc *receiver) dropQuarantine() {
	if rc.incoming != nil {
		rc.incoming.drop()
	}
}

// warn shows a line to who pushes while his pack is being read: it is shown when that is over.
func (rc *receiver) warn(text string) {
	rc.warnMu.Lock()
	defer rc.warnMu.Unlock()
	if len(rc.warnings) < maxWarnings {
		rc.warnings = append(rc.warnings, text)
	}
}

// maxWarnings bounds what one push is told of objects that are let pass.
const maxWarnings = 1000

// say shows a line to who pushes.
func (rc *receiver) say(format string, args ...any) {
	_, _ = fmt.Fprintf(rc.messages, format+"\n", args...) // whether he reads it changes nothing
}

// refused is a reason that the client is told as it is.
func refused(reason string) error { return fmt.Errorf("%s: %w", reason, errkind.Forbidden) }

// Update implements protocol.Receiver.
func (rc *receiver) Update(ctx context.Context, q *odb.Quarantine, updates []git.RefUpdate, opts protocol.UpdateOptions) ([]error, error) {
	rc.messages, rc.options = opts.Messages, opts.PushOptions
	for _, w := range rc.warnings {
		rc.say("%s", w)
	}
	p := &push{receiver: rc, updates: updates, errs: make([]error, len(updates)), opts: opts, store: rc.state.view.Objects, skip: make([]bool, len(updates)), absent: make([]bool, len(updates))}
	if q != nil {
		p.store = q.Store
		if err := rc.incoming.write(q.Received, rc.repo.unpackLimit()); err != nil {
			return nil, err
		}
	}
	p.hooks = rc.repo.hooks(pushEnv(opts.PushOptions)...)
	p.head, _ = rc.state.refs.headTarget()
	if err := p.run(ctx, q != nil); err != nil {
		return nil, err
	}
	return p.errs, nil
}

// push is one push whose objects are in quarantine.
type push struct {
	*receiver
	updates []git.RefUpdate
	errs    []error // by update; what has one is not done
	absent  []bool  // deletions of what is not there
	skip    []bool  // updates that others do as well: of a symbolic reference and what it names
	special []bool  // updates that proc-receive does
	moved   map[int][]protocol.Moved
	opts    protocol.UpdateOptions
	hooks   *hooks
	head    git.RefName
	store   *odb.Store // with the objects of the quarantine

	newRoots map[git.OID]bool // at which the repository's history ends from this push on
}

func (p *push) run(ctx context.Context, hasObjects bool) error {
	if err := p.checkConnected(ctx); err != nil {
		return err
	}
	p.checkAliases()
	if p.opts.Atomic && p.anyRefused() {
		p.refuseRest("transaction failed")
		return nil
	}
	p.findSpecial()
	if !p.preReceive(ctx, hasObjects) {
		p.refuseRest("pre-receive hook declined")
		return nil
	}
	if hasObjects && !p.migrate() {
		p.refuseRest("unable to migrate objects to permanent storage")
		return nil
	}
	if err := p.writeShallow(); err != nil {
		return err
	}
	p.procReceive(ctx)
	if p.opts.Atomic {
		p.moveAll(ctx)
	} else {
		p.moveEach(ctx)
	}
	p.note()
	return nil
}

func (p *push) migrate() bool {
	err := p.incoming.migrate()
	if err != nil {
		p.say("error: %v", err)
	}
	return err == nil
}

// live reports whether nothing is against an update yet.
func (p *push) live(i int) bool { return p.errs[i] == nil && !p.skip[i] }

func (p *push) anyRefused() bool {
	return slices.ContainsFunc(p.errs, func(err error) bool { return err != nil })
}

func (p *push) refuseRest(reason string) {
	for i := range p.errs {
		if p.errs[i] == nil {
			p.errs[i] = refused(reason)
		}
	}
}

func (p *push) liveUpdates() []git.RefUpdate {
	var list []git.RefUpdate
	for i, u := range p.updates {
		if p.live(i) {
			list = append(list, u)
		}
	}
	return list
}

// preReceive asks the hook about all updates that nothing is against.
func (p *push) preReceive(ctx context.Context, hasObjects bool) bool {
	list := p.liveUpdates()
	if len(list) == 0 {
		return true
	}
	h := *p.hooks
	if hasObjects {
		h.env = append(slices.Clip(h.env), p.incoming.env()...)
	}
	return h.run(ctx, "pre-receive", hookLines(list), p.messages) == nil
}

// checkAliases sees to a push that moves a symbolic reference and what it names: both must go to the same place, which one move does.
func (p *push) checkAliases() {
	for i, u := range p.updates {
		target, symbolic := p.state.refs.symbolic[p.full(u.Name)]
		if !symbolic || p.errs[i] != nil {
			continue
		}
		if _, _, ok := p.state.refs.resolve(target); !ok && !u.New.IsZero() {
			p.say("error: refusing update to broken symref '%s'", u.Name)
			p.errs[i] = refused("broken symref")
			continue
		}
		for j, other := range p.updates {
			if p.full(other.Name) != target {
				continue
			}
			if other.New == u.New && other.Old == u.Old {
				p.skip[i] = true
				continue
			}
			p.say("error: refusing inconsistent update between symref '%s' (%s..%s) and its target '%s' (%s..%s)",
				u.Name, u.Old.String()[:7], u.New.String()[:7], other.Name, other.Old.String()[:7], other.New.String()[:7])
			p.errs[i], p.errs[j] = refused("inconsistent aliased update"), refused("inconsistent aliased update")
		}
	}
}

// full is a reference's name with the namespace.
func (rc *receiver) full(name git.RefName) git.RefName { return git.RefName(rc.repo.space) + name }

// moveEach does the updates one by one.
func (p *push) moveEach(ctx context.Context) {
	for i := range p.updates {
		if !p.live(i) || p.isSpecial(i) {
			continue
		}
		c, err := p.judge(ctx, i)
		if err == nil {
			err = p.transact(ctx, []change{c})
		}
		p.errs[i] = err
	}
}

// moveAll does all updates or none.
func (p *push) moveAll(ctx context.Context) {
	if p.anyRefused() {
		p.refuseRest("atomic push failure")
		return
	}
	var changes []change
	for i := range p.updates {
		if !p.live(i) || p.isSpecial(i) {
			continue
		}
		c, err := p.judge(ctx, i)
		if err != nil {
			p.errs[i] = err
			p.refuseRest("atomic push failure")
			return
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return
	}
	if err := p.transact(ctx, changes); err != nil {
		p.refuseRest("atomic transaction failed")
	}
}

// transact moves references; what goes wrong who pushes reads.
func (p *push) transact(ctx context.Context, changes []change) error {
	err := p.repo.transaction(ctx, p.hooks, changes)
	if err == nil {
		return nil
	}
	text := strings.TrimSuffix(err.Error(), ": "+errkind.Of(err).Error())
	p.say("error: %s", text)
	if errors.Is(err, errkind.Forbidden) {
		return refused(text)
	}
	return refused("failed to update ref")
}

// note keeps what was done for the hooks that come after.
func (p *push) note() {
	for i, u := range p.updates {
		if !p.live(i) || p.absent[i] {
			continue
		}
		p.told = append(p.told, u.Name)
		if len(p.moved[i]) == 0 {
			p.done = append(p.done, u)
		}
		for _, m := range p.moved[i] {
			p.opts.Moved(i, m)
			one := u
			if m.Name != "" {
				one.Name = m.Name
			}
			if m.Old != nil {
				one.Old = *m.Old
			}
			if m.New != nil {
				one.New = *m.New
			}
			p.done = append(p.done, one)
		}
	}
}

// after runs the hooks that hear of a push that is over.
func (rc *receiver) after(ctx context.Context, messages io.Writer) {
	if len(rc.done) == 0 {
		return
	}
	h := rc.repo.hooks(pushEnv(rc.options)...)
	run := func(name, input string, args ...string) {
		// What a hook says afterwards undoes nothing. That it did not run is for the owner to mend, who need not be who pushes.
		if err := h.run(ctx, name, input, messages, args...); errors.Is(err, errNotStarted) && rc.log != nil && rc.log != messages {
			_, _ = fmt.Fprintf(rc.log, "error: %v\n", err)
		}
	}
	run("post-receive", hookLines(rc.done))
	var args []string
	for _, name := range rc.told {
		args = append(args, string(name))
	}
	run("post-update", "", args...)
	rc.repo.maintain(ctx, messages)
	if rc.repo.config.Bool("receive.updateserverinfo", false) {
		if err := rc.repo.writeServerInfo(ctx); err != nil {
			_, _ = fmt.Fprintf(messages, "error: update server info: %v\n", err)
		}
	}
}

// exists reports whether a path does.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
