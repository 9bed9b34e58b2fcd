package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agiproxy/admin"
)

// onBackend makes a command that does something to a backend. path tells which
// call, below the backend's, and what it brings.
func onBackend(cmd *cobra.Command, call func(args []string) (path string, body any, err error), then func(ctx context.Context, r *remote, b admin.Backend) error) *cobra.Command {
	cmd.ValidArgsFunction = completeBackend
	return remotely(cmd, func(ctx context.Context, r *remote, args []string) error {
		action, body, err := call(args)
		if err != nil {
			return &wrongError{fmt.Errorf("%s: %w", cmd.Name(), err)}
		}
		b, err := r.backend(ctx, args[0])
		if err != nil {
			return err
		}
		var answer json.RawMessage
		if err := r.Call(ctx, "POST", route("backends", b.Pool, b.Name, action), body, &answer); err != nil {
			return err
		}
		if err := json.Unmarshal(answer, &b); err != nil {
			return err
		}
		if err := present(r, answer, func(b admin.Backend) { r.backends([]admin.Backend{b}) }); err != nil {
			return err
		}
		return then(ctx, r, b)
	})
}

func nothingMore(context.Context, *remote, admin.Backend) error { return nil }

// warnOfLast says so if nothing is left that can serve the backend's pool.
func warnOfLast(ctx context.Context, r *remote, b admin.Backend) error {
	var p admin.Pool
	if err := r.Call(ctx, "GET", route("pools", b.Pool), nil, &p); err != nil {
		return err
	}
	if !p.CanServe {
		report(r.stderr, fmt.Sprintf("%s: pool %s has no backend left that can serve; agiproxy enable %s takes this one back", r.name, p.Name, b.Name))
	}
	return nil
}

// backend finds a backend by POOL/BACKEND, or by its name if that is in one pool
// only.
func (r *remote) backend(ctx context.Context, name string) (found admin.Backend, err error) {
	all, err := r.allBackends(ctx)
	if err != nil {
		return found, err
	}
	all = slices.DeleteFunc(all, func(b admin.Backend) bool { return b.Removed || b.Name != name && b.Pool+"/"+b.Name != name })
	switch len(all) {
	case 0:
		return found, fmt.Errorf("no backend %q; agiproxy status shows them", name)
	case 1:
		return all[0], nil
	}
	var names []string
	for _, b := range all {
		names = append(names, b.Pool+"/"+b.Name)
	}
	return found, &wrongError{fmt.Errorf("%s: backend %q is in several pools; want one of %s", r.name, name, strings.Join(names, ", "))}
}

func (r *remote) allBackends(ctx context.Context) (all []admin.Backend, err error) {
	return all, r.Call(ctx, "GET", "/backends", nil, &all)
}

// completeBackend offers the names of backends, with the pool where they need it.
func completeBackend(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, none
	}
	var r remote
	r.output = "json"
	flags := cmd.Flags()
	for name, to := range map[string]*string{
		"admin": &r.URL, "ca": &r.CAFile, "cert": &r.CertFile, "key": &r.KeyFile, "user": &r.User, "password-file": &r.passwordFile,
	} {
		*to, _ = flags.GetString(name)
	}
	if r.open(cmd) != nil {
		return nil, none
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	all, err := r.allBackends(ctx)
	if err != nil {
		return nil, none
	}
	times := map[string]int{}
	for _, b := range all {
		times[b.Name]++
	}
	var names []cobra.Completion
	for _, b := range all {
		name := b.Name
		if times[name] > 1 {
			name = b.Pool + "/" + name
		}
		if !b.Removed {
			names = append(names, cobra.CompletionWithDesc(name, fmt.Sprintf("%s, %s", b.State, count(b.Sessions, "session"))))
		}
	}
	return names, none
}

func newDrain() *cobra.Command {
	var deadline time.Duration
	var wait bool
	cmd := onBackend(&cobra.Command{
		Use:   "drain BACKEND",
		Short: "Send a backend no new sessions; those under way go on",
		Long: `drain takes a backend out: it gets no new sessions, and those under way go on to
their end. With --deadline, those that are left then get what the pool's
on_backend_loss says. enable takes it back. With --wait the command ends when the
last session has.

It holds until a restart, or a reload in which this backend's own entry has
changed. BACKEND is its name, or POOL/BACKEND.`,
		Example: `  agiproxy drain ivr1
  agiproxy drain ivr/ivr1 --deadline 1h --wait && ssh ivr1 systemctl restart ivr; agiproxy enable ivr1`,
		Args: wants(1, "one BACKEND"),
	}, func([]string) (string, any, error) {
		if deadline == 0 {
			return "drain", nil, nil
		}
		if deadline < 0 {
			return "", nil, fmt.Errorf("--deadline %v; want a time, or none", deadline)
		}
		return "drain", map[string]float64{"deadline_seconds": deadline.Seconds()}, nil
	}, func(ctx context.Context, r *remote, b admin.Backend) error {
		if err := warnOfLast(ctx, r, b); err != nil || !wait {
			return err
		}
		return r.awaitEmpty(ctx, b)
	})
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "the `time` that sessions under way get; 0: as long as they take")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the last session's end")
	return cmd
}

// awaitEmpty waits for the end of a backend's last session, and tells how many
// are left whenever that changes.
func (r *remote) awaitEmpty(ctx context.Context, b admin.Backend) error {
	look := time.NewTicker(500 * time.Millisecond)
	defer look.Stop()
	for told := -1; b.Sessions > 0; {
		if b.State != "drained" {
			return fmt.Errorf("%s takes sessions again", b.Name)
		}
		if b.Sessions != told && r.output == "table" && b.OldestSession != nil {
			told = b.Sessions
			fmt.Fprintf(r.out, "%s left, the oldest %s old\n", count(b.Sessions, "session"), brief(*b.OldestSession))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if err := r.Call(ctx, "GET", route("backends", b.Pool, b.Name), nil, &b); err != nil {
			return err
		}
	}
	if r.output == "table" {
		fmt.Fprintf(r.out, "%s is empty\n", b.Name)
	}
	return nil
}

func newEnable() *cobra.Command {
	return onBackend(&cobra.Command{
		Use:     "enable BACKEND",
		Short:   "Send a drained or disabled backend sessions again",
		Example: "  agiproxy enable ivr1",
		Args:    wants(1, "one BACKEND"),
	}, func([]string) (string, any, error) { return "enable", nil, nil }, nothingMore)
}

func newDisable() *cobra.Command {
	return onBackend(&cobra.Command{
		Use:   "disable BACKEND",
		Short: "Take a backend away from its sessions at once",
		Long: `disable drains a backend without waiting: its sessions get what the pool's
on_backend_loss says now. enable takes it back.`,
		Example: "  agiproxy disable ivr1",
		Args:    wants(1, "one BACKEND"),
	}, func([]string) (string, any, error) { return "disable", nil, nil }, warnOfLast)
}

func newWeight() *cobra.Command {
	return onBackend(&cobra.Command{
		Use:   "weight BACKEND WEIGHT",
		Short: "Change a backend's share of the sessions",
		Long: `weight changes a backend's share relative to the others', 1 to 256. It holds
until a restart, or a reload in which this backend's own entry has changed.`,
		Example: "  agiproxy weight ivr1 5",
		Args:    wants(2, "a BACKEND and a WEIGHT"),
	}, func(args []string) (string, any, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > 256 {
			return "", nil, fmt.Errorf("weight %q; want 1 to 256, or agiproxy drain for none", args[1])
		}
		return "weight", map[string]int{"weight": n}, nil
	}, nothingMore)
}
