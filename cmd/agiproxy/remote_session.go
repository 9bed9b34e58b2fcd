package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"agiproxy/admin"
	"agiproxy/admin/client"
)

func newSessions() *cobra.Command {
	var watch bool
	var limit int
	filters := map[string]*string{"pool": new(string), "backend": new(string), "script": new(string), "uniqueid": new(string), "caller": new(string)}
	cmd := remotely(&cobra.Command{
		Use:   "sessions",
		Short: "Show the sessions under way",
		Long: `sessions shows what each session does: its state, whose turn it is and for how
long, and the backend's last command. The latest come first.`,
		Example: `  agiproxy sessions --watch
  agiproxy sessions --backend ivr1 --caller 5551234
  agiproxy sessions --output json | jq '.[] | select(.turn == "backend" and .turn_seconds > 30)'`,
		Args: wants(0, "none"),
	}, func(ctx context.Context, r *remote, _ []string) error {
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, value := range filters {
			if *value != "" {
				query.Set(name, *value)
			}
		}
		path := "/sessions?" + query.Encode()
		draw := func() error {
			var answer json.RawMessage
			if err := r.Call(ctx, "GET", path, nil, &answer); err != nil {
				return err
			}
			// A pool that a reload has removed may have sessions yet.
			if pool := *filters["pool"]; pool != "" && string(bytes.TrimSpace(answer)) == "[]" {
				if err := r.Call(ctx, "GET", route("pools", pool), nil, nil); err != nil {
					return err
				}
			}
			return present(r, answer, r.sessions)
		}
		if !watch {
			return draw()
		}
		return r.watch(ctx, draw)
	})
	flags := cmd.Flags()
	for name, value := range filters {
		flags.StringVar(value, name, "", "only sessions of that `"+strings.ToUpper(name)+"`")
	}
	flags.IntVar(&limit, "limit", 1000, "show that many at most")
	flags.BoolVar(&watch, "watch", false, "show them again each second")
	return cmd
}

func (r *remote) sessions(all []admin.Session) {
	rows := [][]string{{"ID", "STATE", "POOL", "BACKEND", "SCRIPT", "CALLER", "UNIQUEID", "AGE", "TURN", "FOR", "COMMAND"}}
	for _, s := range all {
		state := s.State
		if s.Resumed {
			state += ", resumed"
		}
		rows = append(rows, []string{
			fmt.Sprint(s.ID), state, s.Pool, s.Backend, s.Script, s.Caller, s.UniqueID, brief(s.Age), s.Turn, brief(s.TurnFor), s.Command,
		})
	}
	r.columns(rows)
}

// watch draws again and again until ctx ends: on a terminal in the same place.
func (r *remote) watch(ctx context.Context, draw func() error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	out := r.out
	file, _ := out.(*os.File)
	terminal := file != nil && term.IsTerminal(int(file.Fd()))
	for {
		var picture strings.Builder
		r.out = &picture
		if err := draw(); err != nil {
			return err
		}
		if terminal {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		}
		if _, err := io.WriteString(out, picture.String()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !terminal && r.output == "table" {
				fmt.Fprintln(out)
			}
		}
	}
}

// errNone says that no session is meant by what was given.
var errNone = errors.New("no such session")

// session finds a session by its number, uniqueid or caller, whichever of these
// comes first in order and has one.
func (r *remote) session(ctx context.Context, name string, order ...string) (path string, err error) {
	if strings.HasPrefix(name, "uniqueid:") || strings.HasPrefix(name, "caller:") {
		order = []string{""}
	}
	for _, prefix := range order {
		path = route("sessions", prefix+name)
		var refusal *client.Refusal
		err := r.Call(ctx, "GET", path, nil, nil)
		if errors.As(err, &refusal) && (refusal.Status == http.StatusNotFound || refusal.Status == http.StatusBadRequest) {
			continue
		}
		return path, err
	}
	return "", fmt.Errorf("%q: %w", name, errNone)
}

func newKill() *cobra.Command {
	return remotely(&cobra.Command{
		Use:   "kill SESSION",
		Short: "End a session",
		Long: `kill ends a session: its dialplan sees AGISTATUS=FAILURE and AGIPROXYSTATUS=KILLED,
as soon as Asterisk has ended the command that runs. Killed again meanwhile, the
session ends now, and Asterisk sees FAILURE after its command. The call itself
isn't hung up: that is the dialplan's to decide.

SESSION is the number that agiproxy sessions shows, a uniqueid or a caller's number.`,
		Example: `  agiproxy kill 4711
  agiproxy kill 1795373249.33`,
		Args: wants(1, "one SESSION"),
	}, func(ctx context.Context, r *remote, args []string) error {
		path, err := r.session(ctx, args[0], "", "uniqueid:", "caller:")
		if err != nil {
			return err
		}
		return display(ctx, r, "DELETE", path, nil, func(s admin.Session) { r.sessions([]admin.Session{s}) })
	})
}

func newTrace() *cobra.Command {
	var wait bool
	cmd := remotely(&cobra.Command{
		Use:   "trace UNIQUEID|CALLER",
		Short: "Read the dialogue of a session along, line by line",
		Long: `trace prints what passes in a session from now on, with its time and who has said
it, until the session ends. The session isn't slowed down by it.

The session is that of a channel's uniqueid, a caller's number, or the number that
agiproxy sessions shows. With --wait it may still be to come.`,
		Example: `  agiproxy trace 1795373249.33
  agiproxy trace --wait 5551234`,
		Args: wants(1, "one UNIQUEID or CALLER"),
	}, func(ctx context.Context, r *remote, args []string) error {
		path, err := r.session(ctx, args[0], "uniqueid:", "caller:", "")
		for wait && errors.Is(err, errNone) {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(200 * time.Millisecond):
			}
			path, err = r.session(ctx, args[0], "uniqueid:", "caller:", "")
		}
		if err != nil {
			return err
		}
		return r.trace(ctx, path)
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the session, if there is none")
	return cmd
}

// trace prints a session's dialogue.
func (r *remote) trace(ctx context.Context, path string) error {
	var lost uint64
	return r.Stream(ctx, path+"/trace", func(data []byte) error {
		if r.output == "json" {
			_, err := fmt.Fprintf(r.out, "%s\n", data)
			return err
		}
		var l admin.Line
		if err := json.Unmarshal(data, &l); err != nil {
			return err
		}
		if l.Lost > lost {
			fmt.Fprintf(r.out, "(%s lost)\n", count(int(l.Lost-lost), "line"))
			lost = l.Lost
		}
		_, err := fmt.Fprintf(r.out, "%s  %-8s  %s\n", l.Time.Local().Format("15:04:05.000"), l.From, printable(l.Line))
		return err
	})
}
