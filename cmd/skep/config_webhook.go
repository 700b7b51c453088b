package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config/wire"
)

func newConfigWebhook(f *configFlags) *cobra.Command {
	return group("webhook", "Have addresses told of what happens; the daemon tells them",
		newConfigWebhookAdd(f), newConfigWebhookList(f), newConfigWebhookShow(f), newConfigWebhookRemove(f), newConfigWebhookEnable(f), newConfigWebhookRedeliver(f))
}

// webhooks are a document's, as whoever runs the command has them: of a folder's a hooks.Manager, otherwise the client's.
type webhooks interface {
	Add(ctx context.Context, n *wire.NewWebhook) (*wire.Webhook, error)
	List(ctx context.Context) ([]wire.Webhook, error)
	Show(ctx context.Context, id string) (*wire.Webhook, error)
	Deliveries(ctx context.Context, id string) ([]wire.Delivery, error)
	Remove(ctx context.Context, id string) error
	Enable(ctx context.Context, id string) error
	Redeliver(ctx context.Context, id, event string) (*wire.Delivery, error)
}

// maxHookSecret is more than a secret may have: package webhook says what is wrong with it.
const maxHookSecret = 1 << 10

func newConfigWebhookAdd(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add URL",
		Short: "Have an address told of what happens from now on, and print the secret that requests are signed with",
		Long: `Have an address told of what happens from now on. The daemon sends it each event as JSON, signed, and again until it is taken. What is printed
last is the secret that requests are signed with: nothing shows it again. docs/reference/config-webhooks.md has the events, and how a signature is checked.

Addresses that are not public, and plain http, are refused unless [webhooks] of .conflux/config.toml allows their network.`,
		Args: exactly(1),
	}
	n := wire.NewWebhook{}
	flags := cmd.Flags()
	flags.StringSliceVar(&n.Events, "event", nil, "only these: operation, promotion, conflict, violation, milestone (default all)")
	flags.StringSliceVar(&n.Entities, "entity", nil, "only of these entities, with * for any text (default all)")
	flags.StringSliceVarP(&n.Environments, "env", "e", nil, "only in these environments (default all)")
	flags.StringVar(&n.Format, "format", "", "github: milestones only, as GitHub tells of a push")
	secret := flags.String("secret-file", "", "a file with the secret (- is standard input; default a new one)")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n.URL = args[0]
		if *secret != "" {
			text, err := readInput(cmd, *secret, maxHookSecret)
			if err != nil {
				return err
			}
			n.Secret = strings.TrimRight(string(text), "\r\n")
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			h, err := d.hooks.Add(ctx, &n)
			if err != nil {
				return err
			}
			if *secret != "" {
				h.Secret = "" // they have it
			}
			return show(cmd, *asJSON, h, func(w io.Writer) {
				fmt.Fprintf(w, "Webhook %s.\n", h.ID)
				if h.Secret != "" {
					fmt.Fprintln(w, h.Secret)
				}
			})
		})
	}
	return cmd
}

func newConfigWebhookList(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the addresses that are told of what happens", Args: exactly(0)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			list, err := d.hooks.List(ctx)
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				rows := make([][]string, len(list))
				for i := range list {
					rows[i] = []string{list[i].ID, orAll(list[i].Events), hookState(&list[i]), list[i].URL}
				}
				table(w, []string{"ID", "EVENTS", "STATE", "URL"}, rows)
			})
		})
	}
	return cmd
}

func orAll(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return strings.Join(list, ", ")
}

// hookState is how a webhook does, in a few words.
func hookState(h *wire.Webhook) string {
	switch {
	case h.Disabled != "":
		return "disabled"
	case h.FailingSince != "":
		return "failing since " + second(h.FailingSince)
	default:
		return "ok"
	}
}

func newConfigWebhookShow(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Show how a webhook does, with its last deliveries", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			h, err := d.hooks.Show(ctx, args[0])
			if err != nil {
				return err
			}
			last, err := d.hooks.Deliveries(ctx, args[0])
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, struct {
				*wire.Webhook
				Deliveries []wire.Delivery `json:"deliveries"`
			}{h, last}, func(w io.Writer) { printHook(w, h, last) })
		})
	}
	return cmd
}

func printHook(w io.Writer, h *wire.Webhook, last []wire.Delivery) {
	fmt.Fprintf(w, "URL           %s\n", printable(h.URL))
	fmt.Fprintf(w, "Events        %s\n", printable(orAll(h.Events)))
	fmt.Fprintf(w, "Entities      %s\n", printable(orAll(h.Entities)))
	fmt.Fprintf(w, "Environments  %s\n", printable(orAll(h.Environments)))
	fmt.Fprintf(w, "Made          %s %s\n", second(h.CreatedAt), printable(h.CreatedBy))
	state := hookState(h)
	if h.Disabled != "" {
		state += ": " + h.Disabled
	} else if h.NextAttempt != "" {
		state += "; tried again at " + second(h.NextAttempt)
	}
	fmt.Fprintf(w, "State         %s\n", printable(state))
	rows := make([][]string, len(last))
	for i := range last {
		d := &last[i]
		answer := "none"
		if d.Status != 0 {
			answer = strconv.Itoa(d.Status)
		}
		rows[i] = []string{second(d.At), d.Event, strconv.Itoa(d.Attempt), answer, d.Error}
	}
	table(w, []string{"AT", "EVENT", "ATTEMPT", "ANSWER", "ERROR"}, rows)
}

func newConfigWebhookRemove(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "remove ID", Short: "Tell an address nothing any more", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error { return d.hooks.Remove(ctx, args[0]) })
	}
	return cmd
}

func newConfigWebhookEnable(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "enable ID", Short: "Have a webhook tried again that fails or was disabled, from where it stopped", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error { return d.hooks.Enable(ctx, args[0]) })
	}
	return cmd
}

func newConfigWebhookRedeliver(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redeliver ID [EVENT]",
		Short: "Send an event of one of the last deliveries again, or that of the latest",
		Args:  oneTo(2),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			again, err := d.hooks.Redeliver(ctx, args[0], strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, again, func(w io.Writer) {
				if again.Delivered {
					fmt.Fprintf(w, "%s was taken.\n", printable(again.Event))
					return
				}
				fmt.Fprintf(w, "%s was not taken: %s.\n", printable(again.Event), printable(again.Error))
			})
		})
	}
	return cmd
}
