package git

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxEntryName bounds one path component: git's own limit for largePathname.
const maxEntryName = 4096

// Check judges an object's content as git fsck does when a server has transfer.fsckObjects on. Errors name git's message
// IDs (git-fsck(1), "FSCK MESSAGES") and wrap errkind.Invalid.
//
// What git calls an error, or a warning that --strict makes one, is refused, but for four defects that old tools wrote into
// well-known histories and that harm nobody, so that hosting services accept them: zeroPaddedFilemode, nulInCommit (after
// the header), missingSpaceBeforeDate, and badTimezone where the zone is at least a sign and digits. On the other hand modes
// that git never wrote are refused (git only mentions badFilemode), because a mode says what kind of object an entry names.
// docs/adr/0006-objects-are-judged-when-they-come-in.md has all differences.
func Check(k Kind, data []byte) error {
	switch k {
	case Commit:
		return checkCommit(data)
	case Tree:
		return checkTree(data)
	case Tag:
		return checkTag(data)
	case Blob:
		return nil
	}
	return fsck("unknownType", k.String())
}

// fsck makes the error for one of git's message IDs.
func fsck(id, what string) error { return fmt.Errorf("%s: %s: %w", id, what, errkind.Invalid) }

func checkCommit(data []byte) error {
	if err := checkHeader(data); err != nil {
		return err
	}
	rest, ok := bytes.CutPrefix(data, []byte("tree "))
	if !ok {
		return fsck("missingTree", "commit does not start with its tree")
	}
	rest, err := checkOID(rest, "badTreeSha1")
	if err != nil {
		return err
	}
	for bytes.HasPrefix(rest, []byte("parent ")) {
		if rest, err = checkOID(rest[len("parent "):], "badParentSha1"); err != nil {
			return err
		}
	}
	authors := 0
	for ; bytes.HasPrefix(rest, []byte("author ")); authors++ {
		if rest, err = checkSignature(rest[len("author "):]); err != nil {
			return err
		}
	}
	switch {
	case authors == 0:
		return fsck("missingAuthor", "commit has no author where it must be")
	case authors > 1:
		return fsck("multipleAuthors", "commit has several authors")
	case !bytes.HasPrefix(rest, []byte("committer ")):
		return fsck("missingCommitter", "commit has no committer where it must be")
	}
	_, err = checkSignature(rest[len("committer "):])
	return err
}

func checkTag(data []byte) error {
	if err := checkHeader(data); err != nil {
		return err
	}
	rest, ok := bytes.CutPrefix(data, []byte("object "))
	if !ok {
		return fsck("missingObject", "tag does not start with its object")
	}
	rest, err := checkOID(rest, "badObjectSha1")
	if err != nil {
		return err
	}
	if rest, ok = bytes.CutPrefix(rest, []byte("type ")); !ok {
		return fsck("missingTypeEntry", "tag has no type where it must be")
	}
	// checkHeader saw to it that each line ends.
	kind, rest, _ := bytes.Cut(rest, newline)
	if _, err := ParseKind(kind); err != nil {
		return fsck("badType", fmt.Sprintf("tag has type %q", clip(kind)))
	}
	if rest, ok = bytes.CutPrefix(rest, []byte("tag ")); !ok {
		return fsck("missingTagEntry", "tag has no name where it must be")
	}
	// Names that no reference can have (badTagName) and tags without tagger, as git wrote them in 2005, are legal.
	_, rest, _ = bytes.Cut(rest, newline)
	if rest, ok = bytes.CutPrefix(rest, []byte("tagger ")); ok {
		_, err = checkSignature(rest)
	}
	return err
}

// checkHeader sees to it that the header of a commit or tag has no NUL and that its last line ends.
func checkHeader(data []byte) error {
	header := data
	if end := bytes.Index(data, []byte("\n\n")); end >= 0 {
		header = data[:end+1]
	}
	switch {
	case bytes.IndexByte(header, 0) >= 0:
		return fsck("nulInHeader", "header contains NUL")
	case !bytes.HasSuffix(header, newline):
		return fsck("unterminatedHeader", "header does not end")
	}
	return nil
}

func checkOID(v []byte, id string) ([]byte, error) {
	if len(v) <= 2*OIDSize || v[2*OIDSize] != '\n' {
		return nil, fsck(id, "not an object ID and a line feed")
	}
	o, err := ParseOID(v[:2*OIDSize])
	switch {
	case err != nil:
		return nil, fsck(id, "not an object ID")
	case o.IsZero():
		return nil, fsck(id, "the null object ID")
	}
	return v[2*OIDSize+1:], nil
}

// checkSignature judges the line at the start of v, and returns what follows.
func checkSignature(v []byte) ([]byte, error) {
	line, rest, _ := bytes.Cut(v, newline)
	bad := func(id, what string) ([]byte, error) {
		return nil, fsck(id, fmt.Sprintf("%s in %q", what, clip(line)))
	}
	at := bytes.IndexAny(line, "<>")
	switch {
	case at < 0:
		return bad("missingEmail", "no <email>")
	case line[at] == '>':
		return bad("badName", "a > before the email")
	case at == 0:
		return bad("missingNameBeforeEmail", "no name")
	case line[at-1] != ' ':
		return bad("missingSpaceBeforeEmail", "no space before the email")
	}
	line2 := line[at+1:]
	if at = bytes.IndexAny(line2, "<>"); at < 0 || line2[at] == '<' {
		return bad("badEmail", "the email does not end")
	}
	when, ok := bytes.CutPrefix(line2[at+1:], space)
	if !ok {
		return rest, nil // missingSpaceBeforeDate: see Check
	}
	secs, zone, ok := bytes.Cut(when, space)
	if len(secs) > 1 && secs[0] == '0' {
		return bad("zeroPaddedDate", "a date with a leading 0")
	}
	if !ok || !digits(secs) {
		return bad("badDate", "no date")
	}
	if _, err := strconv.ParseInt(string(secs), 10, 64); err != nil {
		return bad("badDateOverflow", "a date that is too far away")
	}
	if len(zone) < 2 || (zone[0] != '+' && zone[0] != '-') || !digits(zone[1:]) {
		return bad("badTimezone", "no time zone")
	}
	return rest, nil
}

func digits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}
