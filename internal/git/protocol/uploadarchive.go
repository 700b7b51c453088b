package protocol

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/archive"
)

const (
	// maxArchiveArgs bounds the arguments of one git archive --remote, as in git.
	maxArchiveArgs = 64
	// maxArchiveBytes bounds the request that has them: each is a pkt-line.
	maxArchiveBytes = maxArchiveArgs * maxPktLine
)

// UploadArchive serves git archive --remote over a pipe: the client sends the arguments of git archive, and gets its output. It may
// ask for what a reference names, and for folders in it; not for other objects, though they be there.
//
//	client  "argument --format=zip", "argument HEAD", …, flush
//	server  ACK, flush; then on side-band 1 the archive, on 2 what git archive would say, on 3 why there is none; flush
func UploadArchive(ctx context.Context, v View, in io.Reader, out io.Writer) error {
	pr, pw := NewPktReader(in, maxArchiveBytes), NewPktWriter(out)
	defer pr.Close()
	defer pw.Close()
	args, err := readArchiveArgs(pr)
	if err != nil {
		pw.Line("NACK ", publicText(err))
		_ = pw.Send() // err is the error that counts
		return err
	}
	pw.Line("ACK")
	pw.Flush()
	if err := pw.Send(); err != nil {
		return err
	}
	v = v.forUpload()
	mux := newMuxer(out, sideBand64k, v.config().uploadKeepAlive)
	defer mux.Abort()
	mux.beginBands()
	a := archiveRequest{view: v, mux: mux, format: archive.Tar}
	if err = a.parse(args); err == nil {
		err = a.run(ctx)
	}
	if err != nil {
		mux.Fail(publicText(err))
		return err
	}
	return mux.Close()
}

// readArchiveArgs reads the arguments, up to the flush packet.
func readArchiveArgs(pr *PktReader) (args []string, err error) {
	for {
		k, b, err := pr.Line()
		switch {
		case errors.Is(err, io.EOF):
			return nil, cutShort(err)
		case err != nil:
			return nil, err
		case k == PktFlush:
			return args, nil
		}
		arg, ok := bytes.CutPrefix(b, []byte("argument "))
		switch {
		case k != PktData || !ok:
			return nil, refuse(errkind.Invalid, "upload-archive: 'argument' token or flush expected")
		case len(args) >= maxArchiveArgs:
			return nil, refuse(errkind.TooLarge, "upload-archive: more than %d arguments", maxArchiveArgs)
		}
		args = append(args, string(arg))
	}
}

// archiveFormats are the names of formats, as git archive --list has them.
var archiveFormats = []struct {
	name   string
	format archive.Format
}{{"tar", archive.Tar}, {"tgz", archive.TarGz}, {"tar.gz", archive.TarGz}, {"zip", archive.Zip}}

// archiveRequest is what the arguments of git archive say.
type archiveRequest struct {
	view    View
	mux     *muxer
	format  archive.Format
	opts    archive.Options
	list    bool
	treeish string
}

// parse reads git-archive(1)'s command line. What is not done here is refused rather than left out of the archive.
func (a *archiveRequest) parse(args []string) error {
	var words []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if arg == "" || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		name, value, hasValue := strings.Cut(arg, "=")
		if (name == "--format" || name == "--prefix") && !hasValue {
			if i++; i == len(args) {
				return refuse(errkind.Invalid, "git archive: option %s has no value", name)
			}
			value = args[i]
		}
		if err := a.option(arg, name, value); err != nil {
			return err
		}
	}
	if a.list {
		return nil
	}
	if a.format == archive.Tar && a.opts.Level != 0 {
		return refuse(errkind.Invalid, "git archive: a level is not supported for format 'tar'")
	}
	if len(words) == 0 {
		return refuse(errkind.Invalid, "git archive: say of what: a branch or a tag")
	}
	a.treeish = words[0]
	return a.paths(words[1:])
}

func (a *archiveRequest) option(arg, name, value string) error {
	switch name {
	case "--format":
		for _, f := range archiveFormats {
			if f.name == value {
				a.format = f.format
				return nil
			}
		}
		return refuse(errkind.Unsupported, "git archive: unknown archive format '%s'", clip(value, 80))
	case "--prefix":
		a.opts.Prefix = value
	case "-l", "--list":
		a.list = true
	case "-v", "--verbose":
		a.opts.Each = func(path string) { a.mux.Progress(clip(path, maxNameBytes) + "\n") }
	case "--worktree-attributes": // there is no work tree
	case "-0":
		a.opts.Level = archive.Stored
	case "-1", "-2", "-3", "-4", "-5", "-6", "-7", "-8", "-9":
		a.opts.Level = int(arg[1] - '0')
	default:
		return refuse(errkind.Unsupported, "git archive: option '%s' is not served here", clip(arg, 80))
	}
	return nil
}

// paths takes files and folders by their names. What pathspecs can do besides is refused.
func (a *archiveRequest) paths(words []string) error {
	for _, w := range words {
		w = strings.TrimSuffix(strings.TrimPrefix(w, "./"), "/")
		switch {
		case w == "" || w == ".":
			a.opts.Paths = nil
			return nil
		case w[0] == ':' || strings.ContainsAny(w, `*?[\`):
			return refuse(errkind.Unsupported, "git archive: '%s' is a pattern: name files and folders", clip(w, maxReasonBytes/2))
		}
		a.opts.Paths = append(a.opts.Paths, w)
	}
	return nil
}

func (a *archiveRequest) run(ctx context.Context) error {
	if a.list {
		var names strings.Builder
		for _, f := range archiveFormats {
			names.WriteString(f.name + "\n")
		}
		_, err := io.WriteString(a.mux, names.String())
		return err
	}
	tree, err := a.resolve()
	if err != nil {
		return err
	}
	for _, path := range a.opts.Paths {
		if _, err := archive.Find(a.view.Objects, tree, path); err != nil && errkind.Of(err) == errkind.NotFound {
			return refuse(errkind.NotFound, "git archive: pathspec '%s' did not match any files", clip(path, maxReasonBytes/2))
		}
	}
	return archive.Write(ctx, a.mux, a.view.Objects, tree, a.format, a.opts)
}

// resolve finds the tree that is asked for: REF or REF:PATH.
func (a *archiveRequest) resolve() (git.OID, error) {
	name, path, inside := strings.Cut(a.treeish, ":")
	at, ok := firstRef(a.view.Refs, name)
	if !ok {
		return at, refuse(errkind.NotFound, "git archive: no such ref: %s", clip(name, maxReasonBytes/2))
	}
	at, kind, err := a.view.Objects.Peel(at)
	if err != nil {
		return at, err
	}
	a.opts.When = time.Unix(0, 0).UTC()
	tree := at
	switch kind {
	case git.Tree:
	case git.Commit:
		obj, err := a.view.Objects.Read(at)
		if err != nil {
			return at, err
		}
		c, err := git.ParseCommit(obj.Data)
		if err != nil {
			return at, err
		}
		tree = c.Tree
		if !inside {
			a.opts.Commit, a.opts.When = at, c.Committer.When
		}
	case git.Blob, git.Tag:
		return at, refuse(errkind.Invalid, "git archive: %s is no tree", clip(name, maxReasonBytes/2))
	}
	if path = strings.Trim(path, "/"); path == "" {
		return tree, nil
	}
	e, err := archive.Find(a.view.Objects, tree, path)
	if err != nil && errkind.Of(err) == errkind.NotFound || err == nil && e.Mode != git.ModeDir {
		return tree, refuse(errkind.NotFound, "git archive: there is no folder '%s'", clip(path, maxReasonBytes/2))
	}
	return e.OID, err
}

// firstRef finds the reference that a short name means (git-rev-parse(1)); of several the first counts.
func firstRef(refs *git.Refs, short string) (git.OID, bool) {
	if short == string(git.HEAD) || short == "@" {
		r, ok := refs.HeadRef()
		return r.OID, ok
	}
	for _, rule := range shortNames {
		if r, ok := refs.Get(git.RefName(strings.Replace(rule, "%", short, 1))); ok {
			return r.OID, true
		}
	}
	return git.OID{}, false
}
