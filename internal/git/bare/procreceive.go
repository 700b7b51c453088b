package bare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// maxProcReport bounds what the hook proc-receive says of one push.
const maxProcReport = 64 << 20

// findSpecial finds the updates that are the hook's: receive.procReceiveRefs.
func (p *push) findSpecial() {
	patterns := p.repo.config.All("receive.procreceiverefs")
	if len(patterns) == 0 {
		return
	}
	p.special, p.moved = make([]bool, len(p.updates)), map[int][]protocol.Moved{}
	for i, u := range p.updates {
		if !p.live(i) {
			continue
		}
		for _, pattern := range patterns {
			if procMatches(pattern, u) {
				p.special[i] = true
				break
			}
		}
	}
}

// procMatches says whether an update is one of receive.procReceiveRefs: a prefix, before it letters for kinds of update (add, modify,
// delete) or ! for those that it is not.
func procMatches(pattern string, u git.RefUpdate) bool {
	kinds, prefix, ok := strings.Cut(pattern, ":")
	if !ok {
		kinds, prefix = "adm", pattern
	}
	prefix = strings.TrimRight(prefix, "/")
	not, hit := false, false
	kind := byte('m')
	switch {
	case u.Old.IsZero():
		kind = 'a'
	case u.New.IsZero():
		kind = 'd'
	}
	for i := range len(kinds) {
		switch kinds[i] {
		case '!':
			not = true
		case kind:
			hit = true
		}
	}
	if not && !strings.ContainsAny(kinds, "adm") {
		hit = true
	}
	rest, under := strings.CutPrefix(string(u.Name), prefix)
	under = under && (rest == "" || rest[0] == '/')
	return hit && under != not
}

func (p *push) isSpecial(i int) bool { return p.special != nil && p.special[i] }

// procReceive has the hook do the updates that are its.
func (p *push) procReceive(ctx context.Context) {
	some := false
	for i := range p.updates {
		some = some || p.isSpecial(i) && p.live(i)
	}
	if !some {
		return
	}
	run := &procRun{push: p, back: make([]bool, len(p.updates))}
	if run.hook(ctx) == nil {
		return
	}
	for i := range p.updates {
		if p.errs[i] == nil && !run.back[i] && (p.special[i] || p.opts.Atomic) {
			p.errs[i] = refused("fail to run proc-receive hook")
		}
	}
}

// procRun is one run of the hook (githooks(5), "proc-receive").
type procRun struct {
	*push
	back   []bool // updates of which the hook has told
	failed bool
	notes  []string
}

var errProc = errors.New("proc-receive did not do all that was asked of it")

func (r *procRun) hook(ctx context.Context) error {
	path := r.hooks.find("proc-receive")
	if path == "" {
		r.say("error: cannot find hook 'proc-receive'")
		return errProc
	}
	cmd := r.hooks.command(ctx, path, r.messages)
	cmd.Stdout = nil
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.talk(in, out)
	_ = in.Close()              // the hook may have gone already
	waitErr := r.wait(cmd, out) // then all that it has said itself is with the client
	for _, note := range r.notes {
		r.say("error: %s", note)
	}
	if waitErr != nil || r.failed {
		return errProc
	}
	return nil
}

// wait reads what the hook still says, so that it can end.
func (r *procRun) wait(cmd *exec.Cmd, out io.Reader) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(out, maxProcReport))
	return cmd.Wait()
}

func (r *procRun) fail(format string, args ...any) {
	r.failed = true
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *procRun) talk(in io.Writer, out io.Reader) {
	pw, pr := protocol.NewPktWriter(in), protocol.NewPktReader(out, maxProcReport)
	defer pw.Close()
	defer pr.Close()
	caps := ""
	if r.opts.Atomic {
		caps += " atomic"
	}
	if len(r.options) > 0 {
		caps += " push-options"
	}
	hello := "version=1"
	if caps != "" {
		hello += "\x00" + caps
	}
	pw.Line(hello)
	pw.Flush()
	if pw.Send() != nil {
		r.fail("fail to negotiate version with proc-receive hook")
		return
	}
	version, takesOptions, ok := r.version(pr)
	if !ok {
		r.fail("fail to negotiate version with proc-receive hook")
		return
	}
	if version > 1 {
		r.fail("proc-receive version '%d' is not supported", version)
		return
	}
	for i, u := range r.updates {
		if r.isSpecial(i) && r.live(i) {
			pw.Line(u.Old.String(), " ", u.New.String(), " ", string(u.Name))
		}
	}
	pw.Flush()
	if takesOptions {
		for _, o := range r.options {
			pw.Line(o)
		}
		pw.Flush()
	}
	if pw.Send() != nil {
		r.fail("fail to write commands to proc-receive hook")
		return
	}
	r.report(pr)
}

func (r *procRun) version(pr *protocol.PktReader) (version int, takesOptions, ok bool) {
	for {
		k, b, err := pr.Line()
		if err != nil {
			return 0, false, false
		}
		if k != protocol.PktData {
			return version, takesOptions, true
		}
		text, caps, _ := strings.Cut(string(b), "\x00")
		if v, ok := strings.CutPrefix(text, "version="); ok {
			version, _ = strconv.Atoi(v) // what is no number is version 0, as to git
			for c := range strings.FieldsSeq(caps) {
				takesOptions = takesOptions || c == "push-options"
			}
		}
	}
}

// report reads what became of the updates.
func (r *procRun) report(pr *protocol.PktReader) {
	at, fresh, stray := -1, false, false
	open, heard := false, false // an option may follow
	for {
		k, b, err := pr.Line()
		if err != nil && !heard {
			r.fail("proc-receive exited abnormally")
			return
		}
		if err != nil || k != protocol.PktData {
			break
		}
		heard = true
		head, rest, ok := strings.Cut(string(b), " ")
		if !ok {
			r.fail("proc-receive reported incomplete status line: '%s'", head)
			continue
		}
		if head == "option" {
			if at < 0 || !open && !fresh {
				if !stray {
					r.notes = append(r.notes, "proc-receive reported 'option' without a matching 'ok/ng' directive")
				}
				stray, r.failed = true, true
				continue
			}
			if fresh {
				r.moved[at] = append(r.moved[at], protocol.Moved{})
				fresh, open = false, true
			}
			r.option(at, rest)
			continue
		}
		open, fresh = false, false
		name, why, _ := strings.Cut(rest, " ")
		if head != "ok" && head != "ng" {
			r.fail("proc-receive reported bad status '%s' on ref '%s'", head, name)
			continue
		}
		if at = r.find(name); at < 0 {
			r.fail("proc-receive reported status on unknown ref: %s", name)
			continue
		}
		if !r.special[at] {
			r.fail("proc-receive reported status on unexpected ref: %s", name)
			continue
		}
		r.back[at] = true
		if head == "ng" {
			if why == "" {
				why = "failed"
			}
			r.errs[at], r.failed = refused(why), true
			continue
		}
		fresh = true
	}
	for i := range r.updates {
		if r.special[i] && r.live(i) && !r.back[i] {
			r.errs[i], r.failed = refused("proc-receive failed to report status"), true
		}
	}
}

func (r *procRun) find(name string) int {
	for i, u := range r.updates {
		if string(u.Name) == name {
			return i
		}
	}
	return -1
}

// option reads one of the lines that go with "ok".
func (r *procRun) option(at int, text string) {
	key, value, _ := strings.Cut(text, " ")
	m := &r.moved[at][len(r.moved[at])-1]
	switch key {
	case "refname":
		m.Name = git.RefName(value)
	case "old-oid":
		m.Old = optionOID(value)
	case "new-oid":
		m.New = optionOID(value)
	case "forced-update":
		m.Forced = true
	case "fall-through":
		r.special[at] = false // this process does it after all
	}
}

func optionOID(s string) *git.OID {
	o, err := git.ParseOID(s)
	if errors.Is(err, errkind.Invalid) {
		return nil
	}
	return &o
}
