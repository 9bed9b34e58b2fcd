package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agiproxy/admin"
)

func newStatus() *cobra.Command {
	return remotely(&cobra.Command{
		Use:   "status",
		Short: "Show how a running agiproxy and its backends are",
		Long: `status asks a running agiproxy how it is: each backend's state, since when and
why, how many sessions it has, how old the oldest is, and how soon its first
commands have come in the last five minutes. The exit code is 1 if some pool has
no backend that can serve, or if agiproxy drains.`,
		Example: `  agiproxy status
  agiproxy status --admin https://proxy1:9577 --ca ca.crt --user ops --password-file ~/.agiproxy
  agiproxy status --output json | jq '.pools[].backends[] | select(.state != "up")'`,
		Args: wants(0, "none"),
	}, func(ctx context.Context, r *remote, _ []string) error {
		var s admin.Status
		var status, pools json.RawMessage
		if err := r.Call(ctx, "GET", "/status", nil, &status); err != nil {
			return err
		}
		if err := r.Call(ctx, "GET", "/pools", nil, &pools); err != nil {
			return err
		}
		if err := json.Unmarshal(status, &s); err != nil {
			return err
		}
		both, err := json.Marshal(map[string]json.RawMessage{"status": status, "pools": pools})
		if err != nil {
			return err
		}
		err = present(r, both, func(all struct {
			Status admin.Status `json:"status"`
			Pools  []admin.Pool `json:"pools"`
		}) {
			r.summary(&all.Status)
			var backends []admin.Backend
			for _, p := range all.Pools {
				backends = append(backends, p.Backends...)
				if p.Queued > 0 {
					fmt.Fprintf(r.out, "pool %s: %s in the queue\n", p.Name, count(p.Queued, "session"))
				}
			}
			fmt.Fprintln(r.out)
			r.backends(backends)
		})
		if err == nil && !s.Ready {
			err = fmt.Errorf("not ready: %s", s.NotReady)
		}
		return err
	})
}

// summary prints the process in a few lines.
func (r *remote) summary(s *admin.Status) {
	fmt.Fprintf(r.out, "agiproxy %s, up %s, %s, %s (%s)\n",
		s.Version, brief(s.Uptime), count(s.Sessions, "session"), count(s.Loops, "loop"), s.Engine)
	if l := s.LastReload; !l.OK {
		fmt.Fprintf(r.out, "last reload failed %s ago:\n", brief(time.Since(l.Time).Seconds()))
		for fault := range strings.Lines(l.Error) {
			fmt.Fprintf(r.out, "  %s\n", printable(strings.TrimSuffix(fault, "\n")))
		}
	} else if s.ConfigFile != "" {
		fmt.Fprintf(r.out, "%s, read %s ago\n", s.ConfigFile, brief(time.Since(l.Time).Seconds()))
		r.needRestart(l)
	}
}

// needRestart prints what of the file is not in force.
func (r *remote) needRestart(l admin.Reload) {
	if len(l.NeedRestart) > 0 {
		fmt.Fprintf(r.out, "changed in the file, and not in force before a restart or an upgrade: %s\n", strings.Join(l.NeedRestart, ", "))
	}
}

// backends prints backends as a table.
func (r *remote) backends(all []admin.Backend) {
	rows := [][]string{{"POOL", "BACKEND", "STATE", "SINCE", "SESSIONS", "OLDEST", "WEIGHT", "TOTAL", "FIRST COMMAND", "WHY"}}
	for _, b := range all {
		row := []string{
			b.Pool, b.Name, b.State, brief(time.Since(b.Since).Seconds()), strconv.Itoa(b.Sessions), "",
			strconv.Itoa(b.Weight), strconv.FormatUint(b.Total, 10), "", why(&b),
		}
		if b.MaxSessions > 0 {
			row[4] += "/" + strconv.Itoa(b.MaxSessions)
		}
		if b.OldestSession != nil {
			row[5] = brief(*b.OldestSession)
		}
		if q := b.FirstCommand; q != nil {
			row[8] = "<" + brief(q.P50) + " 99%<" + brief(q.P99)
		}
		rows = append(rows, row)
	}
	r.columns(rows)
}

// why says why a backend is as it is, and until when.
func why(b *admin.Backend) string {
	text := b.Reason
	switch {
	case b.Draining != nil && b.Draining.Deadline != nil:
		if left := time.Until(*b.Draining.Deadline); left > 0 {
			text += ", sessions end in " + brief(left.Seconds())
		}
	case b.EjectedUntil != nil:
		text += ", for another " + brief(time.Until(*b.EjectedUntil).Seconds())
	}
	return text
}

func newReload() *cobra.Command {
	return remotely(&cobra.Command{
		Use:   "reload",
		Short: "Have a running agiproxy read its configuration again",
		Long: `reload does what HUP does, and tells what came of it: if something is wrong with
the file, every fault is printed, nothing has changed, and the exit code is 1.`,
		Example: "  agiproxy reload",
		Args:    wants(0, "none"),
	}, func(ctx context.Context, r *remote, _ []string) error {
		return display(ctx, r, "POST", "/reload", nil, func(l admin.Reload) {
			fmt.Fprintln(r.out, "reloaded")
			r.needRestart(l)
		})
	})
}

func newUpgrade() *cobra.Command {
	return remotely(&cobra.Command{
		Use:   "upgrade",
		Short: "Have a running agiproxy hand over to its new version",
		Long: `upgrade does what USR2 does, and tells what came of it: the running agiproxy starts
the program at its path anew, with the same arguments, and hands over to it with
all sessions that can move. It returns when the new process serves. If it doesn't
come to that, it says why, nothing has changed, and the exit code is 1.`,
		Example: "  agiproxy upgrade",
		Args:    wants(0, "none"),
	}, func(ctx context.Context, r *remote, _ []string) error {
		return display(ctx, r, "POST", "/upgrade", nil, r.upgraded)
	})
}

// upgraded tells of an upgrade in a line or two.
func (r *remote) upgraded(u admin.Upgrade) {
	fmt.Fprintf(r.out, "agiproxy %s serves, process %d: %s moved, which stood still for %s\n",
		printable(u.Version), u.PID, count(u.Moved, "session"), brief(u.Frozen))
	if u.Left > 0 {
		fmt.Fprintf(r.out, "%s can't move; the process before ends after them\n", count(u.Left, "session"))
	}
}
