package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/node"
)

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [DIR]",
		Short: "Verify a data folder: every pack, index, object reference, document and secret, and the audit log",
		Long: `Verify a data folder whose server is stopped, or a copy of one. Everything is read and nothing is changed. What is wrong
is listed; the exit code is then 1.`,
		Args: atMostOne,
	}
	data := cmd.Flags().String("data", "./skep-data", "the data folder")
	address := cmd.Flags().String("control", "", controlUsage)
	documents := cmd.Flags().String("config-store", "", configStoreUsage)
	var key string
	cmd.Flags().Var(keyValue{&key}, "master-key", masterKeyUsage)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if v := os.Getenv("SKEP_CONTROL"); v != "" && !cmd.Flags().Changed("control") {
			*address = v
		}
		if v := os.Getenv("SKEP_CONFIG_STORE"); v != "" && !cmd.Flags().Changed("config-store") {
			*documents = v
		}
		if err := noKeyShown(cmd.Flags()); err != nil {
			return err
		}
		if key == "" {
			key = os.Getenv("SKEP_MASTER_KEY")
		}
		dir := *data
		if len(args) == 1 {
			dir = args[0]
		}
		bar := newBar(cmd.ErrOrStderr())
		faults := 0
		report, err := node.Doctor(cmd.Context(), dir, node.DoctorOptions{
			Control: *address, Documents: *documents, MasterKey: key,
			Progress: func(repo, what string, done, total int) {
				bar.step(repo+": "+what, int64(done), int64(total), "")
			},
			Fault: func(what string, err error) {
				faults++
				bar.say("%s: %v", what, err)
			},
		})
		if err != nil {
			return fmt.Errorf("verify %s: %w", dir, err)
		}
		bar.say("Verified %d repositories: %d references, %d objects in %d packs (%s); and %d entries of the audit log.",
			report.Repos, report.Refs, report.Objects, report.Packs, size(report.Bytes), report.Audited)
		if report.Secrets > 0 {
			bar.say("Opened %d versions of secrets.", report.Secrets)
		}
		if report.Documents > 0 {
			bar.say("Verified the logs of %d documents: %d operations.", report.Documents, report.Operations)
		}
		if report.OrphanLogs > 0 {
			bar.say("%d logs belong to no document: left by an interrupted creation or deletion, and harmless.", report.OrphanLogs)
		}
		if report.Orphans > 0 {
			bar.say("%d cells belong to no repository: left by an interrupted creation or deletion, and harmless.", report.Orphans)
		}
		if faults > 0 {
			return fmt.Errorf("verify %s: %d faults: %w", dir, faults, errkind.Invalid)
		}
		return nil
	}
	return cmd
}
