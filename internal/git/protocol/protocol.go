// Package protocol has pkt-line, upload-pack and receive-pack as state machines over a reader and a writer.
//
// # Serving
//
// AdvertiseUpload and AdvertiseReceive answer "GET info/refs"; UploadPack and ReceivePack answer a POST (Stateless), or
// serve a whole connection over a pipe, its advertisement included. Versions 0, 1 and 2 are spoken as
// https://git-scm.com/docs/gitprotocol-v2 and gitprotocol-pack have it; a push is always version 0 or 1.
//
//	err := protocol.UploadPack(ctx, repo.View(), body, w, protocol.UploadOptions{Version: v, Stateless: true})
//
// What callers may rely on:
//   - a Stateless request is read to its end before the first byte of the answer is written, except that progress of a
//     push is written while its pack, read already, is being resolved;
//   - nothing is written to out after a function has returned;
//   - where out has a method Flush() (as http.ResponseWriter does), it is called when a person may be waiting;
//   - an error that is returned was told to the client as well, in words that give away nothing of the server's inside.
//
// # Asking
//
// A Client lists, fetches from and pushes to another repository, over HTTP or a command's pipes:
//
//	src := protocol.NewHTTPClient(http.DefaultClient, "https://example.org/a.git", protocol.HTTPOptions{})
//	l, err := src.List(ctx)
//	p, err := src.Fetch(ctx, protocol.FetchRequest{Wants: l.Tips(), Progress: os.Stderr})
//	defer p.Close()
//	res, err := dst.Push(ctx, protocol.PushRequest{Updates: updates, Pack: p, Progress: os.Stderr})
//
// which is an import: the pack flows through, and nothing is kept in a file or in memory.
package protocol

import (
	"context"
	"io"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// Version is a version of the Git wire protocol.
type Version int

// The versions. V1 is V0 with a line before it.
const (
	V0 Version = iota
	V1
	V2
)

// ParseVersion reads the Git-Protocol header (or GIT_PROTOCOL): colon-separated keys, of which version=N counts. Of
// several the highest that is known counts, as in git.
func ParseVersion(s string) Version {
	v := V0
	for key := range strings.SplitSeq(s, ":") {
		switch key {
		case "version=1":
			v = max(v, V1)
		case "version=2":
			v = max(v, V2)
		}
	}
	return v
}

// Infinite is the depth that clients ask for when they want all of history (git fetch --unshallow).
const Infinite = 0x7fffffff

// View is one consistent state of a repository. It stays valid while a request works on it, whatever is pushed meanwhile.
type View struct {
	Refs    *git.Refs
	Objects *odb.Store
	Graph   func() (*revwalk.Graph, error) // built at its first use
	// Memo keeps what requests find out about this view for those that follow. A new view gets a new one; nil is
	// correct and slower.
	Memo *Memo
	// Config is what the repository's owner chose; nil: the defaults.
	Config *Config
	// Namespace is what the names of Refs are without: "refs/namespaces/a/", or "" where there is none (gitnamespaces(7)). What
	// hideRefs says of full names (^) is compared with both together.
	Namespace string

	all *git.Refs // hidden references included, where Refs is without
	// Shallow are the commits at which the repository's own history ends. Clients are told, and the graph has none of their parents.
	Shallow []git.OID
	// Others are objects that are there although no reference of this repository names them, such as the references of one that it
	// borrows objects from: who pushes is told of them.
	Others []git.OID
}

// PackCache keeps finished answers. An answer depends on nothing but its key: objects never change.
type PackCache interface {
	// Pack copies the answer named by key to w. The first caller's produce writes it; callers that come meanwhile share that
	// one run.
	Pack(ctx context.Context, key [32]byte, w io.Writer, produce func(ctx context.Context, w io.Writer) error) error
}

// UploadOptions are a transport's and a repository's settings for upload-pack. The zero value works.
type UploadOptions struct {
	Version   Version
	Stateless bool   // HTTP: one request holds what the client has to say, and the answer ends with it
	Agent     string // "skep/0.1"; "" is "skep"
	Cache     PackCache
	// MayFetch is asked when a client has said which objects it wants; its error refuses them. nil: always.
	MayFetch func() error
	// Said is told what the client says of itself, before it is answered; nil: nobody is. Session is how this connection or
	// request is called in logs: the client learns it where transfer.advertiseSID is set.
	Said    func(Said)
	Session string
}

// Receiver is the repository that a push goes to.
type Receiver interface {
	View() View
	// Quarantine reads one pack from r, checks it, and keeps it aside.
	Quarantine(ctx context.Context, r io.Reader, progress func(stage string, done, total int)) (*odb.Quarantine, error)
	// Update moves references and, in the same transaction, takes the quarantined pack (nil when the push has none) into
	// the repository. It sees that each new value is an object that the repository then has. It returns an error per
	// update, in order, nil where it was done; with atomic it is all or none. The second result is a failure of the whole.
	// Once a nil comes back, the update is durable. The text of an error that wraps a kind is what the client is told.
	Update(ctx context.Context, q *odb.Quarantine, updates []git.RefUpdate, opts UpdateOptions) ([]error, error)
}

// UpdateOptions go with a set of reference updates.
type UpdateOptions struct {
	Writer
	Atomic      bool
	PushOptions []string
	Cert        *PushCert // of a signed push, else nil
	Message     string    // for the reflog: "push"
	// Messages is shown to who pushes, as it is written. nil: nobody listens.
	Messages io.Writer
	// Shallow are commits whose parents who pushes does not have, so that the pack is without these as well.
	Shallow []git.OID
	// Moved is told that an update, by its place in the list, was done by moving other references than the one it named. It may be
	// told several times for one update. nil: nobody asks.
	Moved func(update int, m Moved)
}

// Moved is a reference that was moved in place of the one that an update named. Zero values are the update's own.
type Moved struct {
	Name     git.RefName
	Old, New *git.OID
	Forced   bool
}

// Writer is who moves references.
type Writer struct {
	Actor string // for the reflog: a principal's ID
	// May is asked before a reference is moved, for each. Its error is what the client reads. nil allows everything.
	May func(name git.RefName, how Move) error
	// Log is told of updates that are about to be done and writes them down; its error refuses them all. What it returns is told
	// of those that then were not done, and why. nil: nobody does.
	Log func(ctx context.Context, updates []git.RefUpdate, opts UpdateOptions) (undone func([]git.RefUpdate, error), err error)
	// Judge is asked about each update that no other rule has refused, with the objects that there would be then. Its error is
	// what the client reads. nil allows everything.
	Judge func(ctx context.Context, u git.RefUpdate, objects *odb.Store) error
	// Made is told when updates have been tried, those that were done being durable. nil: nobody is.
	Made func(ctx context.Context)
}

// Move is what an update does to a reference.
type Move uint8

// The moves, from harmless to not. A reference that is made, or a branch that is moved to what has its old value among its
// ancestors, loses nothing.
const (
	Forward Move = iota
	Force
	Delete
)

// ReceiveOptions are a transport's and a repository's settings for receive-pack. The zero value works.
type ReceiveOptions struct {
	Version   Version // V2 falls back to V0, as in git
	Stateless bool
	Agent     string
	Writer    Writer
	MayStore  func() error // asked before a pack is read; its error refuses the push. nil: always
	// NonceSeed makes nonces for signed pushes, with Place, the repository's name; nil: signed pushes are not asked for.
	NonceSeed []byte
	Place     string
	// Verify checks the signature of a push certificate; nil: none can be checked. An error ends the push.
	Verify  func(ctx context.Context, c *PushCert) (Signature, error)
	Said    func(Said) // as in UploadOptions
	Session string     // as in UploadOptions
	// Plain leaves it to the Receiver to judge several commands for one reference, and deletions of what is not there.
	Plain bool
	// Messages is where a repository's words to who pushes go when the client has no side-band for them. nil: nowhere.
	Messages io.Writer
	// Reported is told when the client has been told of its push, to which more may then be said. nil: nobody is.
	Reported func(ctx context.Context, messages io.Writer)
}

// Said is what a client says of itself with a request. It may say anything.
type Said struct {
	Agent   string
	Session string   // its own session ID
	Options []string // server-option, in v2
}

// note takes one capability.
func (s *Said) note(key, value string) error {
	switch key {
	case "agent":
		s.Agent = clip(value, maxReasonBytes)
	case "session-id":
		s.Session = clip(value, maxReasonBytes)
	case "server-option":
		if len(s.Options) >= maxPushOptions || len(value) > maxPushOptionBytes {
			return refuse(errkind.TooLarge, "upload-pack: more than %d server options, or one of more than %d bytes", maxPushOptions, maxPushOptionBytes)
		}
		s.Options = append(s.Options, value)
	}
	return nil
}

// agentOr returns how this side calls itself.
func agentOr(agent string) string {
	if agent == "" {
		return "skep"
	}
	return agent
}
