package sshd

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/server"
)

// maxCommand bounds a command line: a path is below 2 KiB, and each of its bytes may be quoted with four.
const maxCommand = 9 << 10

// command is what a client wants to be run.
type command struct {
	service server.Service
	path    string
}

// parseCommand reads a command line as git writes it for a shell: git-upload-pack 'acme/api.git', where a quote in the path is '\” and an
// exclamation mark '\!'. There is no shell, so nothing else that one would understand is understood.
func parseCommand(line string) (command, error) {
	if len(line) > maxCommand {
		return command{}, fmt.Errorf("the command is longer than %d bytes: %w", maxCommand, errkind.TooLarge)
	}
	words, err := splitWords(line)
	if err != nil {
		return command{}, err
	}
	if len(words) > 1 && words[0] == "git" { // git upload-pack PATH, as some clients write it
		words = append([]string{"git-" + words[1]}, words[2:]...)
	}
	var c command
	if len(words) > 0 {
		c.service = server.Service(words[0])
	}
	switch c.service {
	case server.UploadPack, server.ReceivePack, server.UploadArchive:
	default:
		return command{}, fmt.Errorf("only %s, %s and %s are served here: %w", server.UploadPack, server.ReceivePack, server.UploadArchive, errkind.Unsupported)
	}
	switch {
	case len(words) != 2:
		return command{}, fmt.Errorf("%s takes one repository and nothing else: %w", c.service, errkind.Invalid)
	case strings.HasPrefix(words[1], "-"):
		return command{}, fmt.Errorf("%s takes no options: %w", c.service, errkind.Invalid)
	}
	c.path = words[1]
	return c, nil
}

// splitWords splits a line as a shell would if there were nothing in it but blanks, single quotes and backslashes.
func splitWords(line string) (words []string, err error) {
	var word strings.Builder
	inWord, inQuote := false, false
	for i := 0; i < len(line); i++ {
		b := line[i]
		switch {
		case b < ' ' || b == 0x7f:
			return nil, fmt.Errorf("the command has a control character: %w", errkind.Invalid)
		case b == '\'':
			inQuote, inWord = !inQuote, true
		case inQuote:
			word.WriteByte(b)
		case b == ' ':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case b == '\\':
			if i++; i == len(line) || line[i] != '\'' && line[i] != '!' {
				return nil, fmt.Errorf("the command has a backslash where there may be none: %w", errkind.Invalid)
			}
			word.WriteByte(line[i])
			inWord = true
		case strings.IndexByte("\"$`&|;<>()*?[]{}~#!", b) >= 0:
			return nil, fmt.Errorf("there is no shell here to understand %q: %w", b, errkind.Invalid)
		default:
			word.WriteByte(b)
			inWord = true
		}
	}
	if inQuote {
		return nil, fmt.Errorf("the command ends within quotes: %w", errkind.Invalid)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
