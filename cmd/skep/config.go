package main

import "github.com/spf13/cobra"

func newConfig() *cobra.Command {
	return group("config", "Many writers, one configuration: typed operations that merge by rules", newConfigDaemon())
}
