package protocol

import "time"

// The limits of what one request may say. A request is read as a stream: what is kept of it is bounded by these.
const (
	// maxRequestBytes bounds one fetch request, inflated, and the commands of one push. It holds some 650,000 lines of
	// "want" or "have": the largest working trees known have about 500,000 files, each a want when a partial clone is
	// checked out.
	maxRequestBytes = 32 << 20
	// maxWants bounds the objects that one fetch may name. It takes 20 bytes a want, three times over: 30 MiB.
	maxWants = 1 << 19
	// maxHaves bounds the objects that a client may say it has. Git gives up after 256 in vain, and grows its batches
	// from 16 to 16,384, so that it passes this only with more common tips than any repository has references.
	maxHaves = 1 << 18
	// maxShallow bounds a client's shallow boundary: one commit for each line of history that a deepening cut.
	maxShallow = 1 << 17
	// maxDeepenNot bounds the references whose history is left out of a deepening.
	maxDeepenNot = 256
	// maxRefPrefixes is git's own: beyond it a client gets all references, which is correct too.
	maxRefPrefixes = 1 << 16
	// maxCommands bounds the references that one push moves. A mirror of 100,000 references must pass.
	maxCommands = 250_000
	// maxNameBytes bounds a name in a command: it comes back in the report. git.ParseRefName is stricter, per reference.
	maxNameBytes = 4096
	// maxPushOptions and maxPushOptionBytes bound git push -o, and -o of a fetch; hooks read them, and they go into events.
	maxPushOptions     = 64
	maxPushOptionBytes = 4096
	// maxDrainBytes is how much of a refused pack is read on, so that an HTTP client is done sending when the report
	// comes: one that is still sending when the connection closes would show a broken pipe instead of the reason.
	maxDrainBytes = 256 << 20
	// maxReasonBytes bounds a reason that a client is told: it is shown in one line.
	maxReasonBytes = 300
)

// keepAliveAfter is the silence after which an empty side-band packet is sent, as in git: proxies cut connections that
// say nothing for some tens of seconds.
const keepAliveAfter = 5 * time.Second
