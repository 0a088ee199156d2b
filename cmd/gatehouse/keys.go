package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

func keysCommand() *cobra.Command {
	keys := &cobra.Command{Use: "keys", Short: "Sealing keys of sessions"}
	keys.AddCommand(keysNewCommand(), keysListCommand())
	return keys
}

func keysNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new",
		Short: "Print a new sealing key, to be kept as a secret file",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := seal.NewKey(time.Now()).MarshalText()
			if err != nil {
				return failure{err}
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}

func keysListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list --config FILE",
		Short: "Show from when each sealing key seals, and until when its file must stay",
		Long: "Show from when each sealing key seals, and until when its file must stay. Needs only the key files.\n" +
			"A key may be removed once a newer one has sealed for sessions.absolute_timeout. The newer one counts from\n" +
			"its creation and activation_delay, or from the time of its file when that is later: run this where the files\n" +
			"are used, since a copy does not know when the others arrived.",
		Args: cobra.NoArgs,
	}
	file := configFlag(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(*file)
		if err != nil {
			return err
		}
		keys, err := listKeys(cfg, time.Now)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), keys)
		}
		return writeKeys(c.OutOrStdout(), keys, time.Now())
	}
	return c
}

// listedKey is a key as keys list shows it. Absent times are not decided.
type listedKey struct {
	ID         string     `json:"id"`
	File       string     `json:"file"`
	Created    time.Time  `json:"created"`
	SealsFrom  *time.Time `json:"seals_from,omitempty"`  // absent: the oldest, which seals until another key may
	SealsUntil *time.Time `json:"seals_until,omitempty"` // absent: there is no newer key
	SealsNow   bool       `json:"seals_now"`
	KeepUntil  *time.Time `json:"keep_until,omitempty"` // absent: it is the newest
	Removable  bool       `json:"removable"`
}

// listKeys reads the key files, newest key first.
func listKeys(cfg *config.Config, now func() time.Time) ([]listedKey, error) {
	if len(cfg.Sessions.KeyFiles) == 0 {
		return nil, cfg.Mistake("sessions.key_files", "names no file: a key is made at start and forgotten at the end", "", `make one with "gatehouse keys new" and name it here`)
	}
	files, err := readKeyFiles(cfg)
	if err != nil {
		return nil, badKeys(cfg, err)
	}
	ring, err := seal.NewRing(keysOf(files), cfg.Sessions.ActivationDelay, now)
	if err != nil {
		return nil, badKeys(cfg, err)
	}
	byID := map[string]keyFile{}
	for _, f := range files {
		byID[f.key.ID] = f
	}
	var all []listedKey
	for _, d := range ring.Schedule(cfg.Sessions.AbsoluteTimeout, func(id string) time.Time { return byID[id].modified }) {
		all = append(all, listedKey{
			ID: d.ID, File: byID[d.ID].path, Created: d.Created, SealsFrom: known(d.From), SealsUntil: known(d.Until),
			SealsNow: d.Seals, KeepUntil: known(d.Keep), Removable: d.Spare,
		})
	}
	return all, nil
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// keyFile is a key with where it was read.
type keyFile struct {
	path     string
	modified time.Time
	key      seal.Key
}

func keysOf(files []keyFile) []seal.Key {
	keys := make([]seal.Key, len(files))
	for i, f := range files {
		keys[i] = f.key
	}
	return keys
}

func readKeyFiles(cfg *config.Config) ([]keyFile, error) {
	paths, err := cfg.SessionKeyFiles()
	if err != nil {
		return nil, err
	}
	var files []keyFile
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		text, err := config.ReadFile(path)
		if err != nil {
			return nil, err
		}
		key, err := seal.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files = append(files, keyFile{path, info.ModTime().Truncate(time.Second).Add(time.Second), key}) // rather late than early
	}
	return files, nil
}

func badKeys(cfg *config.Config, err error) config.Mistake {
	return cfg.Mistake("sessions.key_files", err.Error(), "", `each file holds one key made by "gatehouse keys new"`)
}

func writeKeys(w io.Writer, keys []listedKey, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tCREATED\tSEALS\tMUST STAY\tFILE")
	for _, k := range keys {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, local(k.Created), k.seals(now), k.stays(), printable(k.File))
	}
	return t.Flush()
}

func (k listedKey) seals(now time.Time) string {
	switch {
	case k.SealsNow && k.SealsFrom == nil:
		return "now (oldest, seals at first start)"
	case k.SealsNow:
		return "now, since " + local(*k.SealsFrom)
	case k.SealsFrom == nil:
		return "until " + local(*k.SealsUntil)
	case k.SealsUntil != nil && !k.SealsUntil.After(*k.SealsFrom):
		return "never: a newer one was first"
	case k.SealsUntil == nil || now.Before(*k.SealsFrom):
		return "from " + local(*k.SealsFrom)
	default:
		return "until " + local(*k.SealsUntil)
	}
}

func (k listedKey) stays() string {
	switch {
	case k.KeepUntil == nil:
		return "not decided: it is the newest"
	case k.Removable:
		return "no more, since " + local(*k.KeepUntil)
	default:
		return "until " + local(*k.KeepUntil)
	}
}
