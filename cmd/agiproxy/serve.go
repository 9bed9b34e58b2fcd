package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"agiproxy/config"
	"agiproxy/internal/app"
	"agiproxy/internal/limits"
	"agiproxy/internal/logsink"
	"agiproxy/internal/systemd"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	config   string
	backends []string
	listen   string
	admin    string
	logLevel string
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve {--config FILE | --backend HOST:PORT ...}",
		Short: "Run the proxy",
		Long: `serve runs the proxy, with a configuration file or with no more than the
addresses of the FastAGI servers. The log goes to standard error, one record for
each session.

TERM and INT drain: nothing new is accepted, and sessions under way get
drain_timeout to end; a second one ends them now. HUP reads the file again; if
something is wrong with it, nothing changes. USR2 starts the program at the same
path with the same arguments, and hands over to it with all sessions that can
move; if it doesn't start, nothing changes.`,
		Example: `  agiproxy serve --config /etc/agiproxy/agiproxy.yaml
  agiproxy serve --backend 10.0.0.11:4573 --backend 10.0.0.12:4573
  agiproxy serve --backend 127.0.0.1:4573 --listen 127.0.0.1:4577 --admin ""`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown argument %q; a configuration file is given by --config %s", args[0], args[0])
			}
			return nil
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return &wrongError{fmt.Errorf("serve: %w; see %s --help", err, cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration `FILE`")
	flags.StringArrayVar(&f.backends, "backend", nil, "FastAGI server, as `HOST:PORT`; may be repeated")
	flags.StringVar(&f.listen, "listen", "", "`ADDRESS` for Asterisk, with --backend (default :4577)")
	flags.StringVar(&f.admin, "admin", "", "`ADDRESS` of metrics and health; \"\" for none (default 127.0.0.1:9577, or the file's)")
	flags.StringVar(&f.logLevel, "log-level", "", "trace, debug, info, warn or error (default info, or the file's)")
	return cmd
}

// check says what is wrong with the flags as such.
func (f *serveFlags) check(cmd *cobra.Command) error {
	switch {
	case f.config == "" && len(f.backends) == 0:
		return errors.New("want --config FILE, or --backend HOST:PORT")
	case f.config != "" && len(f.backends) > 0:
		return errors.New("--config and --backend exclude each other: the file has the backends")
	case f.config != "" && cmd.Flags().Changed("listen"):
		return errors.New("--listen goes with --backend: the file has the listeners")
	case f.logLevel != "" && (hclog.LevelFromString(f.logLevel) == hclog.NoLevel || f.logLevel == "off"):
		return fmt.Errorf("--log-level %q; want trace, debug, info, warn or error", f.logLevel)
	}
	return nil
}

// load reads the configuration and lets the flags have their say. The error
// is what `agiproxy check` would say, too.
func (f *serveFlags) load(cmd *cobra.Command) (cfg *config.Config, err error) {
	if f.config != "" {
		cfg, err = config.Load(f.config)
	} else {
		cfg, err = config.Simple(f.listen, f.backends)
	}
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("admin") {
		if cfg.Admin.Address, err = adminAddress(f.admin, cfg.Admin.WebConfigFile); err != nil {
			return nil, err
		}
	}
	if f.logLevel != "" {
		cfg.Log.Level = f.logLevel
	}
	return cfg, nil
}

// adminAddress checks an address by the rules of the file's key.
func adminAddress(address, webConfig string) (string, error) {
	text := fmt.Appendf(nil, "pools: {x: {backends: [{address: \"localhost:1\"}]}}\nadmin: {address: %q, web_config_file: %q}\n", address, webConfig)
	cfg, err := config.Parse("", text)
	if err != nil {
		return "", fmt.Errorf("--admin %w", err)
	}
	return cfg.Admin.Address, nil
}

// serve runs the proxy until a signal ends it.
func serve(cmd *cobra.Command, f serveFlags) error {
	me := startedAs(os.Args)
	before, err := predecessor()
	if err != nil {
		return err
	}
	cfg, err := f.load(cmd)
	if err != nil {
		before.Refuse(err)
		return &wrongError{err}
	}
	sink := logsink.New(cmd.ErrOrStderr())
	defer flush(sink)
	log := newLogger(sink, cfg.Log, systemd.IsJournal(cmd.ErrOrStderr()))
	b := buildInfo()
	o := app.Options{
		Config: cfg, File: f.config, Log: log, LogDropped: sink.Dropped,
		Notify: systemd.NewNotifier(), Sockets: systemd.Sockets(), Begin: me.begin, Predecessor: before,
		Version: b.version, Commit: b.commit, Date: b.date,
	}
	if f.config != "" {
		o.Reload = func() (*config.Config, error) { return f.load(cmd) }
	}
	// Before anything listens, so that an early signal isn't the default's.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR2)
	defer signal.Stop(signals)

	a, err := app.New(o)
	if err != nil {
		return err
	}
	limitHeap(os.DirFS("/"), log)
	log.Info("started", "version", b.version, "pid", os.Getpid())
	return obeySignals(a, signals, log)
}

// limitHeap has Go collect garbage rather than exceed what the control group may use,
// unless somebody has said what it may, and says what there is.
func limitHeap(root fs.FS, log hclog.Logger) {
	source := "GOMEMLIMIT"
	if os.Getenv(source) == "" {
		source = "control group"
		memory, err := limits.Memory(root)
		if err != nil {
			log.Debug("no control group", "error", err) // as on a Mac
		}
		debug.SetMemoryLimit(limits.Heap(memory))
	}
	memory := debug.SetMemoryLimit(-1) // which changes nothing
	text := fmt.Sprintf("%dMiB by %s", memory>>20, source)
	if memory == math.MaxInt64 {
		text = "no limit"
	}
	descriptors, err := limits.Descriptors()
	if err != nil {
		log.Warn("limits are not known", "error", err)
		return
	}
	log.Info("limits", "descriptors", descriptors, "memory", text)
}

// newLogger returns the logger that the configuration wants. The journal knows
// the time by itself, and gets each line's level.
func newLogger(out io.Writer, c config.Log, journal bool) hclog.Logger {
	o := &hclog.LoggerOptions{
		Output:     out,
		Level:      hclog.LevelFromString(c.Level),
		JSONFormat: c.Format == "json",
	}
	if journal {
		o.Output = systemd.ForJournal(out)
		o.DisableTime = !o.JSONFormat // a record's time is for those who read JSON elsewhere
	}
	return hclog.New(o)
}

// lastWords is how long the log's reader gets to take the last records.
const lastWords = 2 * time.Second

// flush writes what is left of the log, unless its reader has stopped reading.
func flush(sink *logsink.Sink) {
	done := make(chan struct{})
	go func() {
		sink.Flush()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(lastWords):
	}
}

// obeySignals runs the proxy and does what the signals say.
func obeySignals(a *app.App, signals <-chan os.Signal, log hclog.Logger) error {
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	var orders sync.WaitGroup // each of which may take a while, and a stop must not wait for it
	defer orders.Wait()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	cut := false
	for {
		select {
		case err := <-ended:
			if err == nil && cut {
				return errors.New("serve: stopped before the sessions under way had ended")
			}
			log.Info("stopped")
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				orders.Go(func() { _ = a.Reload() }) // which logs what is wrong
			case s == syscall.SIGUSR2:
				orders.Go(func() {
					if _, err := a.Upgrade(); errors.Is(err, app.ErrUpgrading) {
						log.Warn("signal for an upgrade is ignored", "error", err)
					}
				})
			case ctx.Err() == nil:
				drain()
			default:
				cut = true
				a.Close()
			}
		}
	}
}
