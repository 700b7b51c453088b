package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/policy"
)

func newConfigAuth() *cobra.Command {
	return group("auth", "Make API keys, and what .conflux/api-keys.toml has of them", newConfigAuthHash(), newConfigAuthGenerate())
}

// apiKey is an API key and its hash.
type apiKey struct {
	Key  string `json:"key,omitempty"`
	Hash string `json:"key_hash"`
}

func newConfigAuthHash() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hash-key KEY",
		Short: "Print the hash of an API key (- is standard input)",
		Long: `Print the hash of an API key, as the key_hash of .conflux/api-keys.toml. A key on the command line can be seen by others on this machine, and
stays in the shell's history: - reads it from standard input. "skep config auth generate-key" makes keys that nobody can guess.`,
		Args: exactly(1),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key := args[0]
		if key == stdinName {
			text, err := readInput(cmd, stdinName, maxKeyBytes)
			if err != nil {
				return err
			}
			key = strings.TrimRight(string(text), "\r\n")
		}
		hash, warning, err := access.HashKey(key)
		if err != nil {
			return err
		}
		if warning != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "Warning: "+warning+".")
		}
		return show(cmd, *asJSON, apiKey{Hash: hash}, func(w io.Writer) { fmt.Fprintln(w, hash) })
	}
	return cmd
}

func newConfigAuthGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate-key",
		Short: "Make an API key, and print it and its hash",
		Long:  "Make an API key. The first line is the key, which nothing else keeps; the second is its hash, for .conflux/api-keys.toml.",
		Args:  exactly(0),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		key := access.GenerateKey()
		hash, _, err := access.HashKey(key)
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, apiKey{key, hash}, func(w io.Writer) { fmt.Fprintf(w, "%s\n%s\n", key, hash) })
	}
	return cmd
}

func newConfigKeys(f *configFlags) *cobra.Command {
	return group("keys", "Keep the keys with which operations are signed",
		newConfigKeysGenerate(), newConfigKeysRegister(f), newConfigKeysList(f), newConfigKeysRevoke(f))
}

// ownerFlag says whose a key is. It is not who acts, as --actor says elsewhere.
func ownerFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("actor", "", "whose key it is")
}

// signingKey is a key as these commands print it.
type signingKey struct {
	ID      string     `json:"key_id"`
	Actor   string     `json:"actor_id"`
	Public  string     `json:"public_key"`
	File    string     `json:"file,omitempty"`
	Created time.Time  `json:"created_at"`
	Expires *time.Time `json:"expires_at,omitempty"`
	Revoked bool       `json:"revoked"`
	Ended   *time.Time `json:"revoked_at,omitempty"`
}

func newConfigKeysGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate --actor ACTOR --output FILE",
		Short: "Make a key pair: the private key in a file, the public key to be registered",
		Long: `Make a key pair of Ed25519. The private key comes into a file that only you can read, in PEM, and nowhere else. What is printed is for "skep
config keys register", which whoever keeps the document runs.`,
		Args: exactly(0),
	}
	actor := ownerFlag(cmd)
	output := cmd.Flags().StringP("output", "o", "", "the file for the private key")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *actor == "" || *output == "" {
			return usageError{fmt.Errorf("--actor and --output are needed; see %q", cmd.CommandPath()+" --help")}
		}
		k, private, err := sign.Generate(*actor, time.Now())
		if err != nil {
			return err
		}
		if err := sign.WritePrivate(*output, private); err != nil {
			return err
		}
		out := signingKey{ID: k.ID, Actor: k.Actor, Public: sign.PublicText(k.Public), File: *output, Created: k.Created}
		return show(cmd, *asJSON, out, func(w io.Writer) {
			fmt.Fprintf(w, "The private key is in %s.\nPublic key: %s\nRegister it: skep config keys register --key-id %s --actor %s --public-key %q\n",
				printable(out.File), out.Public, out.ID, out.Actor, out.Public)
		})
	}
	return cmd
}

// changeKeys changes the registry, as somebody who administers the document.
func (w *folder) changeKeys(change func(*sign.Registry) error) error {
	if err := w.service.Permit(w.actor, policy.ConfigAdmin, "", "", ""); err != nil {
		return err
	}
	return sign.UpdateRegistry(w.work.File(workspace.KeysFile), change)
}

func newConfigKeysRegister(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "register --key-id ID --actor ACTOR --public-key KEY",
		Short: "Register a public key in .conflux/keys.json",
		Args:  exactly(0),
	}
	flags := cmd.Flags()
	id := flags.String("key-id", "", "a name for the key, never given again, such as alice@2024-01")
	actor := ownerFlag(cmd)
	public := flags.String("public-key", "", "its 32 bytes in base64")
	var expires time.Time
	flags.Var(momentValue{&expires}, "expires", "signatures from then on are not taken (default never)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *id == "" || *actor == "" || *public == "" {
			return usageError{fmt.Errorf("--key-id, --actor and --public-key are needed; see %q", cmd.CommandPath()+" --help")}
		}
		key, err := sign.ParsePublic(*public)
		if err != nil {
			return err
		}
		return f.inFolder(cmd, "", func(_ context.Context, dir *folder) error {
			err := dir.changeKeys(func(r *sign.Registry) error {
				return r.Register(sign.Key{ID: *id, Actor: *actor, Public: key, Created: time.Now(), Expires: expires})
			})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "Registered %s, a key of %s.\n", *id, printable(*actor))
			}
			return err
		})
	}
	return cmd
}

func newConfigKeysList(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the registered keys", Args: exactly(0)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.inFolder(cmd, "", func(_ context.Context, dir *folder) error {
			keys, err := sign.LoadRegistry(dir.work.File(workspace.KeysFile))
			if err != nil {
				return err
			}
			list := []signingKey{}
			for _, k := range keys.List() {
				list = append(list, signingKey{
					ID: k.ID, Actor: k.Actor, Public: sign.PublicText(k.Public), Created: k.Created, Expires: orNoTime(k.Expires),
					Revoked: k.Revoked, Ended: orNoTime(k.RevokedAt),
				})
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				rows := make([][]string, len(list))
				for i, k := range list {
					revoked := "no"
					if k.Revoked {
						revoked = "from the beginning"
					}
					if k.Ended != nil {
						revoked = day(*k.Ended)
					}
					rows[i] = []string{k.ID, k.Actor, k.Public, day(k.Created), until(k.Expires), revoked}
				}
				table(w, []string{"KEY", "ACTOR", "PUBLIC KEY", "REGISTERED", "EXPIRES", "REVOKED"}, rows)
			})
		})
	}
	return cmd
}

func orNoTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func newConfigKeysRevoke(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke KEY_ID",
		Short: "End a key: what it signs from now on is refused, what it signed before stays good",
		Args:  exactly(1),
	}
	at := time.Now()
	cmd.Flags().Var(momentValue{&at}, "at", "from then on, if somebody had the key earlier")
	cmd.Flags().Lookup("at").DefValue = "" // now
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.inFolder(cmd, "", func(_ context.Context, dir *folder) error {
			err := dir.changeKeys(func(r *sign.Registry) error { return r.Revoke(args[0], at) })
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "Revoked %s.\n", args[0])
			}
			return err
		})
	}
	return cmd
}
