package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

func newPolicy() *cobra.Command {
	return group("policy", "Say who may do what in a tenant, and find out why",
		newPolicyValidate(), newPolicyShow(), newPolicySet(), newPolicyRemove(), newPolicyCheck(), newPolicySource())
}

func newPolicyValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a policy document (- is standard input) without giving it to a server",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args[0], policy.MaxDocumentBytes)
			if err != nil {
				return err
			}
			if _, err := policy.Parse(text); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is a valid policy.\n", args[0])
			return nil
		},
	}
}

func newPolicyShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show TENANT", Short: "Print a tenant's policy document", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		p, err := c.Policy(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("policy of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, p, func(w io.Writer) { io.WriteString(w, p.Document) }) //nolint:errcheck // as all output
	}
	return cmd
}

func newPolicySet() *cobra.Command {
	cmd := &cobra.Command{Use: "set TENANT FILE", Short: "Give a tenant a policy document (- is standard input); it is checked first", Args: exactly(2)}
	expected := cmd.Flags().Int64("expect", -1, "refuse unless this is the version there now")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readInput(cmd, args[1], policy.MaxDocumentBytes)
		if err != nil {
			return err
		}
		if _, err := policy.Parse(text); err != nil { // with the file's name, and no trip to the server
			return fmt.Errorf("%s: %w", args[1], err)
		}
		c, err := connect()
		if err != nil {
			return err
		}
		set := client.SetPolicy{Document: string(text)}
		if *expected >= 0 {
			set.ExpectedVersion = expected
		}
		p, err := c.SetPolicy(cmd.Context(), args[0], set)
		if err != nil {
			return fmt.Errorf("set the policy of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, p, func(w io.Writer) {
			fmt.Fprintf(w, "The policy of %s is in effect, as version %d.\n", args[0], p.Version)
		})
	}
	return cmd
}

func newPolicyRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove TENANT", Short: "Take a tenant's policy document away", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RemovePolicy(cmd.Context(), args[0]); err != nil {
			return fmt.Errorf("remove the policy of %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s has no policy document any more.\n", args[0])
		return nil
	}
	return cmd
}

func newPolicyCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check --action ACTION --resource RESOURCE",
		Short: "Ask what a decision would be, and why; exits with 4 if it is no",
		Args:  exactly(0),
	}
	var q client.CheckPolicy
	cmd.Flags().StringVar(&q.Principal, "as", "", "whom the question is about (default: yourself)")
	action := cmd.Flags().String("action", "", "for example ref.push")
	cmd.Flags().StringVar(&q.Resource, "resource", "", "for example repo/acme/api@refs/heads/main")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *action == "" || q.Resource == "" {
			return usageError{fmt.Errorf("--action and --resource are needed; see %q", cmd.CommandPath()+" --help")}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		q.Action = policy.Action(*action)
		d, err := c.CheckPolicy(cmd.Context(), q)
		if err != nil {
			return fmt.Errorf("check policy: %w", err)
		}
		err = show(cmd, *asJSON, d, func(w io.Writer) {
			rows := make([][]string, len(d.Steps))
			for i, s := range d.Steps {
				rows[i] = []string{string(s.Effect), s.Rule, s.Why}
			}
			table(w, []string{"EFFECT", "RULE", "WHY"}, rows)
		})
		if err == nil && !d.Allowed {
			err = fmt.Errorf("%s on %s is not allowed: %w", q.Action, q.Resource, errkind.Forbidden)
		}
		return err
	}
	return cmd
}
